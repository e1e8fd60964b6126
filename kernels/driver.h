// driver.h: functions of the driver that the runtime does not have. Host.
//
// libcuda is reached through the runtime, so that what holds this loads where there is no driver.
#pragma once

#include <cuda_runtime_api.h>

#include <atomic>

namespace blockmoe::kernels {

// Looked up until it is found, then known: a lookup compares strings. Not found (no driver, or an older one) is not remembered.
template <typename Function>
class DriverFunction {
 public:
  // `first_version`: the CUDA version whose signature Function is, 1000 * major + 10 * minor.
  constexpr DriverFunction(const char* name, unsigned first_version) : name_(name), first_version_(first_version) {}

  cudaError_t find(Function* function) {
    *function = known_.load(std::memory_order_relaxed);
    if (*function != nullptr) return cudaSuccess;
    void* entry = nullptr;
    cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
    const cudaError_t error =
        cudaGetDriverEntryPointByVersion(name_, &entry, first_version_, cudaEnableDefault, &found);
    if (error != cudaSuccess) return error;
    if (found != cudaDriverEntryPointSuccess || entry == nullptr) return cudaErrorSymbolNotFound;
    *function = reinterpret_cast<Function>(entry);
    known_.store(*function, std::memory_order_relaxed);
    return cudaSuccess;
  }

 private:
  const char* name_;
  unsigned first_version_;
  std::atomic<Function> known_ = nullptr;
};

}  // namespace blockmoe::kernels
