// driver_calls.h: the driver's functions that this folder needs, looked up. Host.
#pragma once

#include <cudaTypedefs.h>

#include "driver.h"

namespace blockmoe::kernels::blackwell::trtllm {

// The driver's answer of `function`, or CUDA_ERROR_NOT_FOUND where there is no driver or it lacks it.
template <typename Function, typename... Arguments>
CUresult call_driver(DriverFunction<Function>& function, Arguments... arguments) {
  Function entry = nullptr;
  return function.find(&entry) == cudaSuccess ? entry(arguments...) : CUDA_ERROR_NOT_FOUND;
}

}  // namespace blockmoe::kernels::blackwell::trtllm
