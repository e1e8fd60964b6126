// device.cpp: what a plan needs to know of a device, asked or described.
#include <sched.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>
#include <string_view>

#include "api/guard.hpp"
#include "api/refusal.hpp"
#include "api/return_if_error.hpp"
#include "api/validate.hpp"
#include "blockmoe/moe.hpp"

#if BLOCKMOE_WITH_CUDA
#include "api/cuda_device.hpp"
#endif

namespace blockmoe {
namespace {

using api::join;

void set_name(DeviceInfo* info, std::string_view name) {
  const std::size_t length = std::min(name.size(), sizeof info->name - 1);
  std::memcpy(info->name, name.data(), length);
  info->name[length] = '\0';
}

// ---- the host

// Of hardware threads that the process may run on: a container's or taskset's share, not the machine's. 0 when the
// kernel doesn't tell.
std::int32_t threads_of_process() {
  constexpr std::size_t kMostThreads = 65536;
  struct Free {
    void operator()(cpu_set_t* set) const { CPU_FREE(set); }
  };
  const std::unique_ptr<cpu_set_t, Free> set(CPU_ALLOC(kMostThreads));
  const std::size_t bytes = CPU_ALLOC_SIZE(kMostThreads);
  if (set == nullptr || sched_getaffinity(0, bytes, set.get()) != 0) return 0;
  return CPU_COUNT_S(bytes, set.get());
}

// "model name" of the first processor, where Linux gives one.
std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("model name")) continue;
    const std::size_t start = line.find_first_not_of(" \t", line.find(':') + 1);
    if (start != std::string::npos) return line.substr(start);
  }
  return "CPU";
}

DeviceInfo host() {
  DeviceInfo info;
  info.sm_count = std::max(threads_of_process(), 1);
  set_name(&info, processor_name());
  return info;
}

// ---- GPUs by architecture

struct Architecture {
  std::string_view name;      // without a suffix
  std::string_view suffixes;  // that the architecture's compilation targets may carry
  std::int32_t compute_capability;
  std::int32_t sm_count;
  std::int32_t shared_kib;  // that a block may opt in to
  std::string_view part;
};

// Shared memory: CUDA C++ Programming Guide, technical specifications per compute capability ("maximum amount of shared
// memory per thread block"). Multiprocessors: NVIDIA's architecture whitepapers and data sheets of the parts named.
constexpr std::array<Architecture, 9> kArchitectures = {{
    {"sm_80", "", 80, 108, 163, "NVIDIA A100"},
    {"sm_86", "", 86, 84, 99, "NVIDIA A40"},
    {"sm_87", "", 87, 16, 163, "NVIDIA Jetson AGX Orin"},
    {"sm_89", "", 89, 142, 99, "NVIDIA L40S"},
    {"sm_90", "a", 90, 132, 227, "NVIDIA H100 SXM or H200"},
    {"sm_100", "af", 100, 148, 227, "NVIDIA B200"},
    {"sm_103", "af", 103, 148, 227, "NVIDIA B300"},
    {"sm_120", "af", 120, 188, 99, "NVIDIA RTX PRO 6000 Blackwell"},
    {"sm_121", "af", 121, 48, 99, "NVIDIA GB10"},
}};

bool is_name_of(std::string_view name, const Architecture& architecture) {
  if (!name.starts_with(architecture.name)) return false;
  name.remove_prefix(architecture.name.size());
  return name.empty() || (name.size() == 1 && architecture.suffixes.find(name) != std::string_view::npos);
}

std::string known_names() {
  std::string names = "cpu";
  for (const Architecture& architecture : kArchitectures) names += join(", ", architecture.name);
  return names;
}

DeviceInfo described(const Architecture& architecture) {
  DeviceInfo info;
  info.device = {DeviceType::cuda, 0};
  info.compute_capability = architecture.compute_capability;
  info.sm_count = architecture.sm_count;
  info.shared_memory_per_block = architecture.shared_kib * 1024;
  set_name(&info, join(architecture.part, ", described"));
  return info;
}

Result<DeviceInfo> describe(const std::string& name) {
  if (name == "cpu") return host();
  const auto found = std::ranges::find_if(
      kArchitectures, [&](const Architecture& architecture) { return is_name_of(name, architecture); });
  if (found != kArchitectures.end()) return described(*found);
  return api::refuse("name", join("\"", name, "\""), known_names(), "with the suffix a or f where that exists");
}

Result<DeviceInfo> query(Device device) {
  if (device.type == DeviceType::cpu) {
    if (device.index == 0) return host();
    return api::refuse("device.index", join(device.index), "0", "the CPU is one device");
  }
  if (device.type != DeviceType::cuda) {
    return api::refuse("device.type", join(static_cast<std::int32_t>(device.type)), "cpu (0) or cuda (1)");
  }
  if (device.index < 0) return api::refuse("device.index", join(device.index), "0 or more");
#if BLOCKMOE_WITH_CUDA
  return api::query_cuda_device(device.index);
#else
  return Status(StatusCode::unsupported,
                join("device: ", api::text_of(device), ", but this build has no GPU backends"));
#endif
}

}  // namespace

Status detail::query_device(Device device, DeviceInfo* info) {
  return api::guarded([&]() -> Status {
    const Result<DeviceInfo> found = query(device);
    BLOCKMOE_RETURN_IF_ERROR(found.status());
    return api::write_struct("info", found.value(), info);
  });
}

Status detail::describe_device(const std::string& name, DeviceInfo* info) {
  return api::guarded([&]() -> Status {
    const Result<DeviceInfo> found = describe(name);
    BLOCKMOE_RETURN_IF_ERROR(found.status());
    return api::write_struct("info", found.value(), info);
  });
}

}  // namespace blockmoe
