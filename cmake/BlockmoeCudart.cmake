# BlockmoeCudart.cmake: blockmoe_find_cudart(ROOT...) defines blockmoe::cudart_static, CUDA's runtime as a static library
# with the toolkit's headers, from the first of the toolkit folders ROOT that has it. Installed too: the package's config
# uses it. (CMake 3.25's FindCUDAToolkit stops at CUDA 13, where it misses a library that is no longer shipped.)
function(blockmoe_find_cudart)
  if(TARGET blockmoe::cudart_static)
    return()
  endif()
  find_library(library libcudart_static.a PATHS ${ARGN} PATH_SUFFIXES lib64 lib targets/x86_64-linux/lib NO_DEFAULT_PATH NO_CACHE)
  find_path(include cuda_runtime_api.h PATHS ${ARGN} PATH_SUFFIXES include targets/x86_64-linux/include NO_DEFAULT_PATH NO_CACHE)
  if(NOT library OR NOT include)
    message(FATAL_ERROR "blockmoe: no libcudart_static.a or no cuda_runtime_api.h under ${ARGN}; set CUDAToolkit_ROOT to a "
                        "CUDA toolkit of version 13")
  endif()
  add_library(blockmoe::cudart_static STATIC IMPORTED GLOBAL)
  set_target_properties(blockmoe::cudart_static PROPERTIES IMPORTED_LOCATION ${library})
  target_include_directories(blockmoe::cudart_static SYSTEM INTERFACE ${include})
  target_link_libraries(blockmoe::cudart_static INTERFACE Threads::Threads ${CMAKE_DL_LIBS} rt)
endfunction()
