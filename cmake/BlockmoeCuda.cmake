# BlockmoeCuda.cmake: finds nvcc, says what it found, and sets BLOCKMOE_CUDA_ENABLED.
#
# Looked at in turn: -DCMAKE_CUDA_COMPILER, $CUDACXX, PATH, $CUDA_HOME/bin, /usr/local/cuda/bin, and what `make setup`
# installed from PyPI into .venv. -DBLOCKMOE_CUDA_SYSTEM=OFF looks at .venv alone.

option(BLOCKMOE_CUDA_SYSTEM "Look for nvcc outside .venv too" ON)
set(BLOCKMOE_CUDA_ENABLED OFF)

if(NOT BLOCKMOE_CUDA STREQUAL "OFF")
  if(CMAKE_CUDA_COMPILER)
    set(nvcc ${CMAKE_CUDA_COMPILER})
  else()
    file(GLOB venv_bin ${PROJECT_SOURCE_DIR}/.venv/lib/python3*/site-packages/nvidia/cu13/bin)
    set(nvcc nvcc-NOTFOUND)
    if(BLOCKMOE_CUDA_SYSTEM AND DEFINED ENV{CUDACXX})
      set(nvcc $ENV{CUDACXX})
    elseif(BLOCKMOE_CUDA_SYSTEM)
      find_program(nvcc nvcc HINTS ENV CUDA_HOME PATHS /usr/local/cuda PATH_SUFFIXES bin NO_CACHE)
    endif()
    if(NOT nvcc)
      find_program(nvcc nvcc PATHS ${venv_bin} NO_DEFAULT_PATH NO_CACHE)
    endif()
  endif()

  if(nvcc)
    set(CMAKE_CUDA_COMPILER ${nvcc})
    # Each target names its architectures in full (-gencode below); this only keeps CMake from choosing one.
    set(CMAKE_CUDA_ARCHITECTURES OFF)
    # Nor does it choose a runtime: the static one is linked by name (BlockmoeTargets.cmake), and no target has device code to link.
    set(CMAKE_CUDA_RUNTIME_LIBRARY None)
    set(CMAKE_CUDA_STANDARD 17)
    set(CMAKE_CUDA_STANDARD_REQUIRED ON)
    set(CMAKE_CUDA_EXTENSIONS OFF)
    set(CMAKE_CUDA_VISIBILITY_PRESET hidden)
    enable_language(CUDA)
    # CMake 3.25 does not know that nvcc takes C++20.
    if(NOT DEFINED CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
      set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
      set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
    endif()
    if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 13)
      message(FATAL_ERROR "nvcc ${CMAKE_CUDA_COMPILER_VERSION} (${CMAKE_CUDA_COMPILER}): 13.0 or later is needed")
    endif()
    include(BlockmoeCudart)
    blockmoe_find_cudart(${CMAKE_CUDA_COMPILER_TOOLKIT_ROOT})
    set(BLOCKMOE_CUDA_ENABLED ON)
  elseif(BLOCKMOE_CUDA STREQUAL "ON")
    message(FATAL_ERROR "BLOCKMOE_CUDA=ON, and no nvcc: neither -DCMAKE_CUDA_COMPILER, CUDACXX, PATH, CUDA_HOME nor .venv "
                        "has one. `make setup CUDA=1` installs it.")
  endif()
endif()

if(BLOCKMOE_CUDA_ENABLED)
  message(STATUS "blockmoe: CPU and CUDA backends, with nvcc ${CMAKE_CUDA_COMPILER_VERSION} (${CMAKE_CUDA_COMPILER})")
elseif(BLOCKMOE_CUDA STREQUAL "OFF")
  message(STATUS "blockmoe: CPU backend only (BLOCKMOE_CUDA is OFF)")
else()
  message(STATUS "blockmoe: CPU backend only: no nvcc was found (`make setup CUDA=1` installs one)")
endif()

set(blockmoe_gencode_HOPPER -gencode=arch=compute_90a,code=sm_90a)
set(blockmoe_gencode_BLACKWELL -gencode=arch=compute_100a,code=sm_100a)
set(blockmoe_gencode_PTX -gencode=arch=compute_90a,code=compute_90a)
set(blockmoe_gencode_PORTABLE -gencode=arch=compute_80,code=[sm_80,compute_80] -gencode=arch=compute_90,code=sm_90)

# An OBJECT library of CUDA C++17 (and host C++17) that goes into `blockmoe`: blockmoe_cuda_part(name HOPPER|BLACKWELL|PORTABLE SOURCE...).
function(blockmoe_cuda_part name arch)
  if(NOT BLOCKMOE_CUDA_ENABLED)
    message(FATAL_ERROR "${name}: call blockmoe_cuda_part only if(BLOCKMOE_CUDA_ENABLED)")
  endif()
  blockmoe_part(${name} ${ARGN})
  blockmoe_cuda_options(${name} ${arch})
endfunction()

# The same flags for a target that is not a part of the library (a GPU test's own kernels); PTX makes no machine code.
function(blockmoe_cuda_options name arch)
  if(NOT DEFINED blockmoe_gencode_${arch})
    message(FATAL_ERROR "${name}: ${arch}, expected HOPPER, BLACKWELL, PORTABLE or PTX")
  endif()
  set_target_properties(${name} PROPERTIES CUDA_STANDARD 17 CXX_STANDARD 17)
  target_compile_options(${name} PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:${blockmoe_gencode_${arch}}>")
  target_link_libraries(${name} PRIVATE blockmoe::cudart_static)
endfunction()
