# BlockmoeCutlass.cmake: finds CUTLASS's headers for kernels/blackwell, as the target blockmoe_cutlass.
#
# Looked at in turn: -DBLOCKMOE_CUTLASS_INCLUDE (the folder that holds cutlass/ and cute/), and what `make setup BLACKWELL=1`
# installed from PyPI into .venv.

if(NOT BLOCKMOE_CUDA_ENABLED)
  message(FATAL_ERROR "BLOCKMOE_BLACKWELL=ON, and no CUDA backend: BLOCKMOE_CUDA is ${BLOCKMOE_CUDA}")
endif()

set(BLOCKMOE_CUTLASS_INCLUDE "" CACHE PATH "Folder of CUTLASS's headers; empty: looked for in .venv")
set(cutlass_include ${BLOCKMOE_CUTLASS_INCLUDE})
if(NOT cutlass_include)
  file(GLOB cutlass_include ${PROJECT_SOURCE_DIR}/.venv/lib/python3*/site-packages/cutlass_library/source/include)
endif()
set(version_file ${cutlass_include}/cutlass/version.h)
if(NOT cutlass_include OR NOT EXISTS ${version_file})
  message(FATAL_ERROR "BLOCKMOE_BLACKWELL=ON, and no cutlass/version.h: neither BLOCKMOE_CUTLASS_INCLUDE nor .venv has it. "
                      "`make setup CUDA=1 BLACKWELL=1` installs package nvidia-cutlass.")
endif()
set(cutlass_version "")
foreach(part MAJOR MINOR)
  file(STRINGS ${version_file} line REGEX "define CUTLASS_${part} ")
  string(REGEX MATCH "[0-9]+" number "${line}")
  list(APPEND cutlass_version ${number})
endforeach()
list(JOIN cutlass_version "." cutlass_version)
if(cutlass_version VERSION_LESS 4.2)
  message(FATAL_ERROR "CUTLASS ${cutlass_version} (${cutlass_include}): 4.2 or later is needed")
endif()
message(STATUS "blockmoe: Blackwell's products for sm_100a, with CUTLASS ${cutlass_version} (${cutlass_include})")

add_library(blockmoe_cutlass INTERFACE)
# Not ours to warn about.
target_include_directories(blockmoe_cutlass SYSTEM INTERFACE ${cutlass_include})
target_compile_options(blockmoe_cutlass INTERFACE $<$<COMPILE_LANGUAGE:CUDA>:--expt-relaxed-constexpr>)
