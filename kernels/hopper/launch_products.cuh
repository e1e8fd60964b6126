// launch_products.cuh: the products' kernel for one shape, and its launch.
#pragma once

#include <cuda_runtime.h>

#include "hopper/products.cuh"

namespace blockmoe::kernels::hopper {

template <class S>
__global__ void __launch_bounds__(kThreads, S::kCtasThatFit)
    products_kernel(const __grid_constant__ CUtensorMap w13, const __grid_constant__ CUtensorMap w2,
                    const __grid_constant__ Params params) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  run_products<S>(w13, w2, params);
#else
  __trap();  // compiled for another architecture than sm_90a: never silently nothing
#endif
}

// Loads the kernel on the current device and lets a CTA have `experts` experts' tables.
template <class S>
cudaError_t prepare_products(std::int32_t experts) {
  const auto kernel = products_kernel<S>;
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared);
  if (error != cudaSuccess) return error;
  return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                              static_cast<int>(smem_bytes<S>(experts)));
}

// `ctas` is the number of multiprocessors that the call may use. Programmatic: see ptx/griddepcontrol.h.
template <class S>
cudaError_t launch_products(const CUtensorMap& w13, const CUtensorMap& w2, const Params& params, std::int32_t ctas,
                            cudaStream_t stream) {
  cudaLaunchAttribute programmatic{};
  programmatic.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  programmatic.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(ctas));
  config.blockDim = dim3(kThreads);
  config.dynamicSmemBytes = smem_bytes<S>(params.chunk.experts);
  config.stream = stream;
  config.attrs = &programmatic;
  config.numAttrs = 1;
  return cudaLaunchKernelEx(&config, products_kernel<S>, w13, w2, params);
}

}  // namespace blockmoe::kernels::hopper
