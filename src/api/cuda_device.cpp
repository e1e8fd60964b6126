#include "api/cuda_device.hpp"

#include <cudaTypedefs.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <utility>

#include "api/refusal.hpp"
#include "driver.h"

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

// Of a device that did not answer with `error`.
Status absent(std::int32_t index, cudaError_t error) {
  int count = 0;
  if (const cudaError_t none = cudaGetDeviceCount(&count); none != cudaSuccess) return refused(index, none);
  if (index < count) return refused(index, error);
  cudaGetLastError();
  return {StatusCode::unsupported, join("device: cuda:", index, ", and this machine has ", count,
                                        count == 1 ? " CUDA device" : " CUDA devices")};
}

struct Place {
  bool managed;
  bool on_device;
  std::int32_t device;
};

// One call of the driver for the three answers that count; the runtime asks it for more, and then makes sure of a context. None
// where the driver does not answer: a thread without a context, for one.
std::optional<Place> ask_driver(const void* pointer) {
  static kernels::DriverFunction<PFN_cuPointerGetAttributes_v7000> get_attributes("cuPointerGetAttributes", 7000);
  PFN_cuPointerGetAttributes_v7000 get = nullptr;
  if (get_attributes.find(&get) != cudaSuccess) return {};
  unsigned managed = 0;
  unsigned type = 0;  // stays 0 where the driver does not know the address
  int device = 0;
  std::array attributes = {CU_POINTER_ATTRIBUTE_IS_MANAGED, CU_POINTER_ATTRIBUTE_MEMORY_TYPE,
                           CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL};
  std::array<void*, 3> answers = {&managed, &type, &device};
  const CUresult result = get(static_cast<unsigned>(attributes.size()), attributes.data(), answers.data(),
                              reinterpret_cast<CUdeviceptr>(pointer));
  if (result != CUDA_SUCCESS) return {};
  return Place{managed != 0, type == CU_MEMORYTYPE_DEVICE, device};
}

}  // namespace

Result<DeviceInfo> query_cuda_device(std::int32_t index) {
  Result<DeviceInfo> limits = query_cuda_limits(index);
  if (!limits.ok()) return limits;
  DeviceInfo info = limits.value();
  cudaDeviceProp properties;
  if (const cudaError_t error = cudaGetDeviceProperties(&properties, index); error != cudaSuccess)
    return absent(index, error);
  const std::size_t length = std::min(std::strlen(properties.name), sizeof info.name - 1);
  std::memcpy(info.name, properties.name, length);
  info.name[length] = '\0';
  return info;
}

Result<DeviceInfo> query_cuda_limits(std::int32_t index) {
  int major = 0;
  int minor = 0;
  DeviceInfo info;
  info.device = {DeviceType::cuda, index};
  const std::array<std::pair<cudaDeviceAttr, int*>, 4> questions = {
      {{cudaDevAttrComputeCapabilityMajor, &major},
       {cudaDevAttrComputeCapabilityMinor, &minor},
       {cudaDevAttrMultiProcessorCount, &info.sm_count},
       {cudaDevAttrMaxSharedMemoryPerBlockOptin, &info.shared_memory_per_block}}};
  for (const auto& [attribute, answer] : questions) {
    if (const cudaError_t error = cudaDeviceGetAttribute(answer, attribute, index); error != cudaSuccess)
      return absent(index, error);
  }
  info.compute_capability = 10 * major + minor;
  return info;
}

std::string not_memory_of(const void* pointer, std::int32_t index) {
  if (const std::optional<Place> place = ask_driver(pointer)) {
    if (place->managed || (place->on_device && place->device == index)) return {};
    return place->on_device ? join("memory of cuda:", place->device) : "host memory";
  }
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
