#include "api/cuda_device.hpp"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstring>

#include "api/refusal.hpp"

namespace blockmoe::api {
namespace {

Status refused(std::int32_t index, cudaError_t error) {
  cudaGetLastError();  // this failure is reported here; let no later call report it again
  int driver = 0;      // 0: there is none, which the runtime takes for one that is too old
  if (error == cudaErrorInsufficientDriver && cudaDriverGetVersion(&driver) == cudaSuccess && driver == 0) {
    return {StatusCode::unsupported, join("device: cuda:", index, ", but there is no NVIDIA driver here")};
  }
  return {StatusCode::unsupported, join("device: cuda:", index, ": ", cudaGetErrorString(error))};
}

}  // namespace

Result<DeviceInfo> query_cuda_device(std::int32_t index) {
  int count = 0;
  cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) return refused(index, error);
  if (index >= count) {
    return Status(StatusCode::unsupported, join("device: cuda:", index, ", and this machine has ", count,
                                                count == 1 ? " CUDA device" : " CUDA devices"));
  }
  cudaDeviceProp properties;
  error = cudaGetDeviceProperties(&properties, index);
  if (error != cudaSuccess) return refused(index, error);
  DeviceInfo info;
  info.device = {DeviceType::cuda, index};
  info.compute_capability = 10 * properties.major + properties.minor;
  info.sm_count = properties.multiProcessorCount;
  info.shared_memory_per_block = static_cast<std::int32_t>(properties.sharedMemPerBlockOptin);
  const std::size_t length = std::min(std::strlen(properties.name), sizeof info.name - 1);
  std::memcpy(info.name, properties.name, length);
  info.name[length] = '\0';
  return info;
}

std::string not_memory_of(const void* pointer, std::int32_t index) {
  cudaPointerAttributes attributes;
  if (const cudaError_t error = cudaPointerGetAttributes(&attributes, pointer); error != cudaSuccess) {
    cudaGetLastError();
    return cudaGetErrorString(error);
  }
  if (attributes.type == cudaMemoryTypeManaged) return {};
  if (attributes.type != cudaMemoryTypeDevice) return "host memory";
  return attributes.device == index ? std::string() : join("memory of cuda:", attributes.device);
}

CurrentDevice::CurrentDevice(std::int32_t index) {
  int current = 0;
  cudaError_t error = cudaGetDevice(&current);
  if (error == cudaSuccess && current != index) {
    error = cudaSetDevice(index);
    if (error == cudaSuccess) before_ = current;
  }
  if (error != cudaSuccess) {
    cudaGetLastError();
    status_ = Status(StatusCode::device_error, join("device: cuda:", index, ": ", cudaGetErrorString(error)));
  }
}

CurrentDevice::~CurrentDevice() {
  if (before_ >= 0) cudaSetDevice(before_);
}

}  // namespace blockmoe::api
