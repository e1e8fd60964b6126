// launch_product.cuh: a product's kernel for one shape, and its launch.
#pragma once

#include <cuda_runtime.h>

#include "hopper/product.cuh"

namespace blockmoe::kernels::hopper {

template <class Product, class S>
__global__ void __launch_bounds__(kThreads, S::kCtas)
    product_kernel(const __grid_constant__ CUtensorMap map, const __grid_constant__ typename Product::Params params) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  run_product<Product, S>(map, params);
#else
  __trap();  // compiled for another architecture than sm_90a: never silently nothing
#endif
}

// Loads the kernel on the current device and lets a CTA have `experts` experts' tables. All of an SM's memory is asked for as
// shared memory, so that a narrow gemm2 finds room beside a running gemm1.
template <class Product, class S>
cudaError_t prepare_product(std::int32_t experts) {
  const auto kernel = product_kernel<Product, S>;
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared);
  if (error != cudaSuccess) return error;
  return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                              static_cast<int>(smem_bytes<S>(experts)));
}

// `ctas` is the number of multiprocessors that the call may use. Programmatic: see ptx/griddepcontrol.h.
template <class Product, class S>
cudaError_t launch_product(const CUtensorMap& map, const typename Product::Params& params, std::int32_t ctas,
                           cudaStream_t stream) {
  cudaLaunchAttribute programmatic{};
  programmatic.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  programmatic.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(ctas));
  config.blockDim = dim3(kThreads);
  config.dynamicSmemBytes = smem_bytes<S>(params.product.experts);
  config.stream = stream;
  config.attrs = &programmatic;
  config.numAttrs = 1;
  return cudaLaunchKernelEx(&config, product_kernel<Product, S>, map, params);
}

}  // namespace blockmoe::kernels::hopper
