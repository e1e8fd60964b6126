#include "machine.hpp"

#include "error.hpp"

#if BLOCKMOE_WITH_CUDA
#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <fstream>
#endif

namespace blockmoe::cli {
namespace {

#if BLOCKMOE_WITH_CUDA
std::string cuda_version(int number) {
  return fmt::format("{}.{}", number / 1000, number % 1000 / 10);
}

std::string driver_version() {
  std::ifstream file("/proc/driver/nvidia/version");
  for (std::string word; file >> word;)
    if (std::count(word.begin(), word.end(), '.') >= 1 && std::isdigit(static_cast<unsigned char>(word.front())) != 0)
      return word;
  int number = 0;
  cudaDriverGetVersion(&number);
  return "for CUDA " + cuda_version(number);
}
#endif

nlohmann::ordered_json or_null(const std::string& text) {
  return text.empty() ? nlohmann::ordered_json(nullptr) : nlohmann::ordered_json(text);
}

}  // namespace

Machine machine_with(const DeviceInfo& device) {
  Machine machine;
  machine.host = value_or_raise(query_device(Device{})).name;
#if BLOCKMOE_WITH_CUDA
  if (device.device.type != DeviceType::cuda) return machine;
  int runtime = 0;
  cudaRuntimeGetVersion(&runtime);
  machine.gpu = device.name;
  machine.driver = driver_version();
  machine.cuda = cuda_version(runtime);
#else
  static_cast<void>(device);
#endif
  return machine;
}

nlohmann::ordered_json to_json(const Machine& machine) {
  return {{"gpu", or_null(machine.gpu)},
          {"driver", or_null(machine.driver)},
          {"cuda", or_null(machine.cuda)},
          {"host", or_null(machine.host)}};
}

}  // namespace blockmoe::cli
