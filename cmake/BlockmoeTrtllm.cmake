# BlockmoeTrtllm.cmake: finds TRTLLM's batched-GEMM kernels, the folder batched_gemm-<hash> of package flashinfer-cubin: export headers, the
# list of configurations, cubins. Sets BLOCKMOE_TRTLLM_FOLDER, empty where there is none. Nothing of it goes into the library but the
# rows of that list which can do this layer's products.
#
# Looked at in turn: -DBLOCKMOE_TRTLLM_CUBIN_DIR, the environment's BLOCKMOE_TRTLLM_CUBIN_DIR (which is read at run time too), and what
# `make setup CUDA=1 BLACKWELL=1` installed from PyPI into .venv.
set(BLOCKMOE_TRTLLM_CUBIN_DIR "$ENV{BLOCKMOE_TRTLLM_CUBIN_DIR}" CACHE PATH
    "Folder batched_gemm-<hash> of package flashinfer-cubin; empty: .venv's, if it is there")
set(BLOCKMOE_TRTLLM_FOLDER "")

if(BLOCKMOE_CUDA_ENABLED)
  set(folders ${BLOCKMOE_TRTLLM_CUBIN_DIR})
  if(NOT folders)
    file(GLOB folders ${PROJECT_SOURCE_DIR}/.venv/lib/python3*/site-packages/flashinfer_cubin/cubins/*/batched_gemm-*)
  endif()
  foreach(folder IN LISTS folders)
    if(EXISTS ${folder}/include/flashinferMetaInfo.h AND EXISTS ${folder}/include/trtllmGen_bmm_export/BatchedGemmOptions.h)
      set(BLOCKMOE_TRTLLM_FOLDER ${folder})
    endif()
  endforeach()
  if(BLOCKMOE_TRTLLM_FOLDER)
    message(STATUS "blockmoe: TRTLLM's batched GEMM, from ${BLOCKMOE_TRTLLM_FOLDER}")
  elseif(BLOCKMOE_TRTLLM_CUBIN_DIR)
    message(FATAL_ERROR "BLOCKMOE_TRTLLM_CUBIN_DIR is ${BLOCKMOE_TRTLLM_CUBIN_DIR}, which has no include/flashinferMetaInfo.h and "
                        "include/trtllmGen_bmm_export: expected the folder batched_gemm-<hash> of package flashinfer-cubin")
  else()
    message(STATUS "blockmoe: without TRTLLM's batched GEMM (package flashinfer-cubin is not there)")
  endif()
endif()
