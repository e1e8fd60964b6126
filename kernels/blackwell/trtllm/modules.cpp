#include "blackwell/trtllm/modules.h"

#include <map>
#include <mutex>
#include <utility>

#include "blackwell/trtllm/cubin_file.h"
#include "blackwell/trtllm/driver_calls.h"
#include "once_a_context.h"

namespace blockmoe::kernels::blackwell::trtllm {
namespace {

struct Cubin {
  std::vector<char> bytes;
  std::string why_not;  // empty: bytes are there
};

CUresult load(const Config& config, const std::vector<char>& cubin, CUfunction* kernel) {
  static DriverFunction<PFN_cuModuleLoadData_v2000> load_data("cuModuleLoadData", 2000);
  static DriverFunction<PFN_cuModuleGetFunction_v2000> get_function("cuModuleGetFunction", 2000);
  static DriverFunction<PFN_cuModuleUnload_v2000> unload("cuModuleUnload", 2000);
  static DriverFunction<PFN_cuFuncSetAttribute_v9000> set_attribute("cuFuncSetAttribute", 9000);
  CUmodule module = nullptr;
  CUfunction found = nullptr;
  CUresult result = call_driver(load_data, &module, static_cast<const void*>(cubin.data()));
  if (result != CUDA_SUCCESS) return result;
  result = call_driver(get_function, &found, module, config.function.c_str());
  if (result == CUDA_SUCCESS) {
    result = call_driver(set_attribute, found, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                         static_cast<int>(config.shared_bytes));
  }
  if (result == CUDA_SUCCESS) {
    *kernel = found;
  } else {
    call_driver(unload, module);
  }
  return result;
}

}  // namespace

const std::vector<char>* checked_cubin(std::int32_t index, std::string* why_not) {
  static std::mutex mutex;
  static std::map<std::int32_t, Cubin> read;  // its values stay where they are
  const Config* const config = config_at(index, why_not);
  if (config == nullptr) return nullptr;
  const std::scoped_lock lock(mutex);
  const auto [at, is_new] = read.try_emplace(index);
  Cubin& cubin = at->second;
  if (is_new) read_cubin(cubin_folder(), config->function, config->sha256, &cubin.bytes, &cubin.why_not);
  if (cubin.why_not.empty()) return &cubin.bytes;
  *why_not = cubin.why_not;
  return nullptr;
}

CUresult load_kernel(const Config& config, const std::vector<char>& cubin, CUfunction* kernel) {
  static std::mutex mutex;
  static std::map<std::pair<std::uint64_t, std::string>, CUfunction> loaded;  // by context and sha256
  const ContextId context = current_context();
  if (!context) return CUDA_ERROR_INVALID_CONTEXT;
  const std::pair key{*context, config.sha256};
  const std::scoped_lock lock(mutex);
  if (const auto known = loaded.find(key); known != loaded.end()) {
    *kernel = known->second;
    return CUDA_SUCCESS;
  }
  const CUresult result = load(config, cubin, kernel);
  if (result == CUDA_SUCCESS) loaded.emplace(key, *kernel);
  return result;
}

}  // namespace blockmoe::kernels::blackwell::trtllm
