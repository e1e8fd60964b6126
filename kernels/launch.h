// launch.h: launching a kernel so that a refusal carries the kernel's name.
#pragma once

#include <cstddef>
#include <cstdint>

#include <cuda_runtime.h>

#include "operator.h"

namespace blockmoe::kernels {

inline Error error_in(const char* kernel, cudaError_t code) {
  return {static_cast<std::int32_t>(code), kernel};
}

struct LaunchShape {
  dim3 grid;
  dim3 block;
  std::size_t shared_bytes = 0;
  bool dependent = false;  // may start before the kernel ahead of it has ended: ptx/griddepcontrol.h (sm_90)
};

// The refusal comes from the launch itself, so that an error which an earlier call left behind is never taken for ours.
template <typename... Parameters, typename... Arguments>
Error launch_kernel(const char* name, void (*kernel)(Parameters...), const LaunchShape& shape, cudaStream_t stream,
                    const Arguments&... arguments) {
  cudaLaunchConfig_t config = {};
  config.gridDim = shape.grid;
  config.blockDim = shape.block;
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = stream;
  cudaLaunchAttribute programmatic = {};
  programmatic.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  programmatic.val.programmaticStreamSerializationAllowed = 1;
  config.attrs = &programmatic;
  config.numAttrs = shape.dependent ? 1 : 0;
  return error_in(name, cudaLaunchKernelEx(&config, kernel, arguments...));
}

// Loads `kernel` on the current device, so that no launch, perhaps under capture, has to.
template <typename... Parameters>
Error prepare_kernel(const char* name, void (*kernel)(Parameters...)) {
  cudaFuncAttributes attributes;
  return error_in(name, cudaFuncGetAttributes(&attributes, kernel));
}

// The same, and a launch may ask for as much shared memory as the device has. What one plan's sizes need would not do: the limit
// is the kernel's, and the next plan's may be lower.
template <typename... Parameters>
Error prepare_for_any_shared_memory(const char* name, void (*kernel)(Parameters...)) {
  cudaFuncAttributes attributes;
  int device = 0;
  int most = 0;
  cudaError_t code = cudaFuncGetAttributes(&attributes, kernel);
  if (code == cudaSuccess) code = cudaGetDevice(&device);
  if (code == cudaSuccess) code = cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  if (code == cudaSuccess) {
    code = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                most - static_cast<int>(attributes.sharedSizeBytes));
  }
  return error_in(name, code);
}

// Lets `kernel` run with the largest shared memory, as the products do. A kernel that asks for another division of an SM's
// memory than the one before it may have to wait for that to end: kernels that are to overlap ask for the same.
template <typename... Parameters>
Error prefer_shared_memory(const char* name, void (*kernel)(Parameters...)) {
  return error_in(name, cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                                             cudaSharedmemCarveoutMaxShared));
}

// Runs the steps in turn until one fails: `first_error([&] { return route(); }, [&] { return pack(); })`.
template <typename... Steps>
Error first_error(Steps&&... steps) {
  Error error;
  static_cast<void>(((error = steps()).ok() && ...));
  return error;
}

}  // namespace blockmoe::kernels
