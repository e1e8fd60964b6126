// cuda_device.hpp: CUDA devices as the runtime describes them. Only in builds with CUDA.
#pragma once

#include <string>

#include "blockmoe/moe.hpp"

namespace blockmoe::api {

/// `unsupported` where there is no driver, no GPU, or no device of that number.
Result<DeviceInfo> query_cuda_device(std::int32_t index);

/// The same without the name, for calls: the driver is not asked for all that a device has, which takes it tens of microseconds.
Result<DeviceInfo> query_cuda_limits(std::int32_t index);

/// Where a pointer leads: empty when kernels on CUDA device `index` may use it, else what it is ("host memory").
std::string not_memory_of(const void* pointer, std::int32_t index);

/// Makes a device current while it lives, and then the one that was.
class CurrentDevice {
 public:
  explicit CurrentDevice(std::int32_t index);
  ~CurrentDevice();
  CurrentDevice(const CurrentDevice&) = delete;
  CurrentDevice& operator=(const CurrentDevice&) = delete;

  const Status& status() const { return status_; }

 private:
  std::int32_t before_ = -1;  // -1: nothing to restore
  Status status_;
};

}  // namespace blockmoe::api
