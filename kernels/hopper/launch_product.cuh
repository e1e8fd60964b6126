// launch_product.cuh: a product's kernel for one shape, and its launch.
#pragma once

#include <cuda_runtime.h>

#include "hopper/product.cuh"

namespace blockmoe::kernels::hopper {

template <class Product, class S>
__global__ void __launch_bounds__(kThreads, S::kCtas)
    product_kernel(const __grid_constant__ CUtensorMap map, const __grid_constant__ typename Product::Params params) {
  run_product<Product, S>(map, params);
}

// `ctas` is the number of multiprocessors that the call may use. Programmatic: see ptx/griddepcontrol.h.
template <class Product, class S>
cudaError_t launch_product(const CUtensorMap& map, const typename Product::Params& params, std::int32_t ctas,
                           cudaStream_t stream) {
  const auto kernel = product_kernel<Product, S>;
  const std::size_t bytes = smem_bytes<S>(params.product.experts);
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
  if (error != cudaSuccess) return error;

  cudaLaunchAttribute programmatic{};
  programmatic.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  programmatic.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(ctas));
  config.blockDim = dim3(kThreads);
  config.dynamicSmemBytes = bytes;
  config.stream = stream;
  config.attrs = &programmatic;
  config.numAttrs = 1;
  return cudaLaunchKernelEx(&config, kernel, map, params);
}

}  // namespace blockmoe::kernels::hopper
