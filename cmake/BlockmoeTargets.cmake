# BlockmoeTargets.cmake: the kinds of target that the folders are made of. CMakeLists.txt in the root explains them.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/bin)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()

set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)

if(BLOCKMOE_SANITIZE)
  add_compile_options($<$<COMPILE_LANGUAGE:C,CXX>:-fsanitize=address,undefined>
                      $<$<COMPILE_LANGUAGE:C,CXX>:-fno-sanitize-recover=all>
                      $<$<COMPILE_LANGUAGE:C,CXX>:-fno-omit-frame-pointer>)
  # Of C programs too, since a C++ library is in them.
  add_link_options(-fsanitize=address,undefined $<$<LINK_LANG_AND_ID:C,Clang>:-fsanitize-link-c++-runtime>)
endif()

# Flags of tests and of the command, whose time goes into compiling them. Not under sanitizers: there the tests' own loops cost
# more than optimising them.
set(blockmoe_quick $<$<NOT:$<BOOL:${BLOCKMOE_SANITIZE}>>:-O1>)

# Flags of every file of ours. Contraction off: the numerics contract counts roundings (kernels/contract/host_device.h).
add_library(blockmoe_flags INTERFACE)
target_compile_options(
  blockmoe_flags
  INTERFACE $<$<COMPILE_LANGUAGE:C,CXX>:-Wall;-Wextra;-Wpedantic;-Wshadow;-Wconversion;-Werror;-ffp-contract=off>
            # Files that turn off a warning of GCC alone.
            $<$<COMPILE_LANG_AND_ID:CXX,Clang>:-Wno-unknown-warning-option>
            # GCC 12 sees overlaps in std::string's operator+ that can't be (its bug 105651).
            $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-restrict>
            $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra,-Wshadow,-ffp-contract=off;-Werror=all-warnings;-lineinfo>)
target_include_directories(
  blockmoe_flags INTERFACE ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/kernels ${PROJECT_SOURCE_DIR}/src)
target_compile_definitions(blockmoe_flags INTERFACE BLOCKMOE_WITH_CUDA=$<BOOL:${BLOCKMOE_CUDA_ENABLED}>
                                                    $<$<BOOL:${BLOCKMOE_CHECKED}>:BLOCKMOE_CHECKED=1>)

# The library, and for tools and tests the same objects with nothing hidden from them.
add_library(blockmoe)
add_library(blockmoe::blockmoe ALIAS blockmoe)
set(blockmoe_libraries blockmoe)
if(BUILD_SHARED_LIBS)
  set(blockmoe_shared blockmoe)
  add_library(blockmoe_internal STATIC)
  list(APPEND blockmoe_libraries blockmoe_internal)
else()
  add_library(blockmoe_internal ALIAS blockmoe)
  if(BLOCKMOE_TESTS AND NOT BLOCKMOE_SANITIZE)
    # The same objects as a shared library, CUDA's among them: tests/outside looks at what it exports.
    set(blockmoe_shared blockmoe_as_shared)
    add_library(blockmoe_as_shared SHARED)
    list(APPEND blockmoe_libraries blockmoe_as_shared)
  endif()
endif()
if(blockmoe_shared)
  target_link_options(${blockmoe_shared} PRIVATE -Wl,--version-script=${PROJECT_SOURCE_DIR}/cmake/exports.map -Wl,--no-undefined)
  set_target_properties(${blockmoe_shared} PROPERTIES LINK_DEPENDS ${PROJECT_SOURCE_DIR}/cmake/exports.map)
endif()
foreach(library IN LISTS blockmoe_libraries)
  target_sources(${library} PRIVATE ${PROJECT_SOURCE_DIR}/include/blockmoe/blockmoe.hpp)
  set_target_properties(${library} PROPERTIES LINKER_LANGUAGE CXX)
  target_include_directories(${library} PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>)
  target_compile_features(${library} PUBLIC cxx_std_17)
  target_link_libraries(${library} PRIVATE Threads::Threads)
  if(BLOCKMOE_CUDA_ENABLED)
    # Static: of CUDA, only the driver is looked up at run time, and only when a CUDA device is asked for.
    target_link_libraries(${library} PRIVATE blockmoe::cudart_static)
  endif()
endforeach()

# An OBJECT library that goes into `blockmoe`.
function(blockmoe_part name)
  add_library(${name} OBJECT ${ARGN})
  set_target_properties(${name} PROPERTIES C_VISIBILITY_PRESET hidden CXX_VISIBILITY_PRESET hidden
                                           VISIBILITY_INLINES_HIDDEN ON)
  target_link_libraries(${name} PRIVATE blockmoe_flags Threads::Threads)
  foreach(library IN LISTS blockmoe_libraries)
    target_sources(${library} PRIVATE $<TARGET_OBJECTS:${name}>)
  endforeach()
endfunction()

# A static library of the tools and tests.
function(blockmoe_tool_library name)
  add_library(${name} STATIC ${ARGN})
  target_include_directories(${name} PUBLIC ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/kernels)
  target_link_libraries(${name} PRIVATE blockmoe_flags)
endfunction()

# Headers that take longer to read than a target's own code, read once: blockmoe_precompile(target HEADER...). C++ files alone;
# each file still includes what it uses (clang-tidy reads them without).
function(blockmoe_precompile target)
  list(TRANSFORM ARGN REPLACE "(.+)" "$<$<COMPILE_LANGUAGE:CXX>:<\\1$<ANGLE-R>>")
  target_precompile_headers(${target} PRIVATE ${ARGN})
endfunction()

# A GoogleTest program <name>_test, each of whose tests is ctest's <name>.<suite>.<test>:
# blockmoe_test(name SOURCE... [LINK LIBRARY...] [LABEL LABEL...]).
function(blockmoe_test name)
  cmake_parse_arguments(PARSE_ARGV 1 test "" "" "LINK;LABEL")
  add_executable(${name}_test ${test_UNPARSED_ARGUMENTS})
  target_include_directories(${name}_test PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
  target_link_libraries(${name}_test PRIVATE ${test_LINK} blockmoe_flags GTest::gtest_main)
  target_compile_options(${name}_test PRIVATE ${blockmoe_quick})
  target_precompile_headers(${name}_test REUSE_FROM blockmoe_test_headers)
  gtest_discover_tests(
    ${name}_test
    TEST_PREFIX ${name}.
    DISCOVERY_MODE PRE_TEST
    PROPERTIES LABELS "${test_LABEL}" TIMEOUT 300)
endfunction()

# A libFuzzer program: blockmoe_fuzzer(name SOURCE... [LINK LIBRARY...] CORPUS FOLDER). What a run finds beyond the corpus
# stays in the build folder.
function(blockmoe_fuzzer name)
  cmake_parse_arguments(PARSE_ARGV 1 fuzz "" "CORPUS" "LINK")
  add_executable(${name} ${fuzz_UNPARSED_ARGUMENTS})
  target_link_libraries(${name} PRIVATE ${fuzz_LINK} blockmoe_flags)
  target_compile_options(${name} PRIVATE -fsanitize=fuzzer-no-link)
  target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  set(found ${CMAKE_CURRENT_BINARY_DIR}/${name}.found)
  file(MAKE_DIRECTORY ${found})
  cmake_path(ABSOLUTE_PATH fuzz_CORPUS)
  math(EXPR timeout "${BLOCKMOE_FUZZ_SECONDS} + 60")
  add_test(NAME ${name} COMMAND ${name} -max_total_time=${BLOCKMOE_FUZZ_SECONDS} -timeout=10 -rss_limit_mb=2048
                                -print_final_stats=1 ${found} ${fuzz_CORPUS})
  set_tests_properties(${name} PROPERTIES LABELS fuzz TIMEOUT ${timeout})
endfunction()
