// cuda_check.hpp: a CUDA error as a Status, and memory that frees itself; for host code that is not the operator.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <memory>
#include <string>

#include "blockmoe/status.hpp"

namespace blockmoe::measure {

inline Status cuda_status(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return {};
  const auto code = error == cudaErrorMemoryAllocation ? StatusCode::out_of_memory : StatusCode::device_error;
  return {code, std::string(what) + ": " + cudaGetErrorName(error) + " (" + cudaGetErrorString(error) + ")"};
}

struct CudaFree {
  void operator()(void* p) const { cudaFree(p); }
};
using DeviceMemory = std::unique_ptr<void, CudaFree>;

inline Result<DeviceMemory> allocate(std::size_t bytes, const char* what) {
  void* memory = nullptr;
  if (Status s = cuda_status(cudaMalloc(&memory, bytes == 0 ? 1 : bytes), what); !s.ok()) return s;
  return DeviceMemory(memory);
}

}  // namespace blockmoe::measure

// Returns the Status of a failed CUDA runtime call from the surrounding function.
#define BLOCKMOE_CUDA_TRY(call)                                                                                      \
  do {                                                                                                               \
    if (::blockmoe::Status status_ = ::blockmoe::measure::cuda_status((call), #call); !status_.ok()) return status_; \
  } while (0)

// Returns a failed Status from the surrounding function.
#define BLOCKMOE_TRY(expression)                                                  \
  do {                                                                            \
    if (::blockmoe::Status status_ = (expression); !status_.ok()) return status_; \
  } while (0)
