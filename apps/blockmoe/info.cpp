// info.cpp: `blockmoe info`: what this build is, what this machine has, and which backends run on it.
#include <fmt/format.h>

#include <array>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "blockmoe/moe.hpp"
#include "blockmoe/version.h"
#include "commands.hpp"
#include "cpu/instruction_set.hpp"
#include "error.hpp"
#include "options.hpp"
#include "trace.h"
#if BLOCKMOE_WITH_CUDA
#include "blackwell/products.h"
#include "measure/cublaslt.hpp"
#endif

namespace blockmoe::cli {
namespace {

constexpr const char* kInfoFooter = R"(Examples:
  blockmoe info
  blockmoe info --json)";

#if BLOCKMOE_WITH_CUDA && defined(BLOCKMOE_HAS_NVTX)
constexpr bool kHasNvtx = true;
#else
constexpr bool kHasNvtx = false;
#endif

// Why `bench` can't measure the rates of dense products here; empty where it can.
std::string why_no_cublaslt() {
#if BLOCKMOE_WITH_CUDA
  return measure::cublaslt::load().status().message();
#else
  return "this build has no GPU backends";
#endif
}

// Why blackwell's policies could not choose TRTLLM's kernels on a B200; empty where they could.
std::string why_no_trtllm() {
#if BLOCKMOE_WITH_CUDA
  kernels::Request request;  // DeepSeek-V3's layer
  request.max_tokens = 1;
  request.device.compute_capability = 100;
  std::string why_not;
  return kernels::blackwell::trtllm_entry().supports(request, &why_not) ? "" : why_not;
#else
  return "this build has no GPU backends";
#endif
}

// The instruction sets that the CPU backend chooses among and that this machine runs, the fastest last.
std::vector<std::string> instruction_sets() {
  std::vector<std::string> names;
  for (const auto set : {cpu::InstructionSet::plain, cpu::InstructionSet::avx2, cpu::InstructionSet::avx512_bf16,
                         cpu::InstructionSet::amx}) {
    if (cpu::is_available(set)) names.emplace_back(cpu::name_of(set));
  }
  return names;
}

// A backend on a device: the path that DeepSeek-V3's layer would take, or why there is none.
struct Availability {
  Backend backend;
  std::string device;  // "cuda:0"; an architecture that is not here: what a build would run there
  std::string path;    // empty: it does not run
  std::string why_not;
};

struct Facts {
  std::vector<DeviceInfo> devices;
  std::string why_no_cuda;  // empty where a CUDA device was found
  std::vector<Availability> backends;
};

void find_devices(Facts& facts) {
  facts.devices.push_back(value_or_raise(query_device(Device{})));
  for (std::int32_t index = 0;; ++index) {
    const Result<DeviceInfo> found = query_device({DeviceType::cuda, index});
    if (!found.ok()) {
      if (index == 0) facts.why_no_cuda = found.status().message();
      return;
    }
    facts.devices.push_back(found.value());
  }
}

Availability availability(Backend backend, const std::string& word, const DeviceInfo& device) {
  Options options;
  options.backend = backend;
  const Result<Plan> plan = Plan::create(Geometry(), 1, device, options);
  return {backend, word, plan.ok() ? plan.value().path() : "", plan.ok() ? "" : plan.status().message()};
}

void try_backends(Facts& facts) {
  constexpr std::array kOnGpus = {Backend::portable, Backend::hopper, Backend::blackwell};
  for (const DeviceInfo& device : facts.devices) {
    const std::string word = to_string(device.device);
    if (device.device.type == DeviceType::cpu) {
      facts.backends.push_back(availability(Backend::cpu, word, device));
    } else {
      for (const Backend backend : kOnGpus) facts.backends.push_back(availability(backend, word, device));
    }
  }
  if (!facts.why_no_cuda.empty()) {
    for (const Backend backend : kOnGpus) facts.backends.push_back({backend, "cuda:0", "", facts.why_no_cuda});
  }
  // Few have one: what this build has for it.
  constexpr const char* kBlackwell = "sm_100a";
  facts.backends.push_back(availability(Backend::blackwell, kBlackwell, value_or_raise(describe_device(kBlackwell))));
}

nlohmann::ordered_json to_json(const Facts& facts) {
  nlohmann::ordered_json devices = nlohmann::ordered_json::array();
  for (const DeviceInfo& device : facts.devices) {
    devices.push_back({{"device", to_string(device.device)},
                       {"name", device.name},
                       {"compute_capability", device.compute_capability},
                       {"sm_count", device.sm_count},
                       {"shared_memory_per_block", device.shared_memory_per_block}});
  }
  nlohmann::ordered_json backends = nlohmann::ordered_json::array();
  for (const Availability& a : facts.backends) {
    nlohmann::ordered_json entry{{"backend", to_string(a.backend)}, {"device", a.device}, {"runs", !a.path.empty()}};
    if (a.path.empty()) {
      entry["why_not"] = a.why_not;
    } else {
      entry["path"] = a.path;
    }
    backends.push_back(std::move(entry));
  }
  return {{"version", BLOCKMOE_VERSION},
          {"build", {{"cuda", BLOCKMOE_WITH_CUDA != 0}, {"nvtx", kHasNvtx}, {"compiler", __VERSION__}}},
          {"cublaslt", why_no_cublaslt().empty()},
          {"trtllm", why_no_trtllm().empty()},
          {"cpu_instruction_sets", instruction_sets()},
          {"devices", std::move(devices)},
          {"backends", std::move(backends)}};
}

std::string to_text(const Facts& facts) {
  std::string text = fmt::format("blockmoe {}, built {} CUDA by compiler {}\n", BLOCKMOE_VERSION,
                                 BLOCKMOE_WITH_CUDA != 0 ? "with" : "without", __VERSION__);
  const auto found = [](const std::string& why_not) { return why_not.empty() ? "found" : why_not; };
  text += fmt::format("NVTX ranges around the stages: {}\n", kHasNvtx ? "yes" : "no");
  text += fmt::format("cuBLASLt, for the product rates of bench: {}\n", found(why_no_cublaslt()));
  text += fmt::format("TRTLLM's batched GEMM, for blackwell's policies: {}\n", found(why_no_trtllm()));
  text += fmt::format("CPU instruction sets: {}\n", fmt::join(instruction_sets(), ", "));
  text += "devices\n";
  for (const DeviceInfo& device : facts.devices) {
    const bool cpu = device.device.type == DeviceType::cpu;
    text += fmt::format("  {:<8} {}, {} {}\n", to_string(device.device), device.name, device.sm_count,
                        cpu ? "threads" : "multiprocessors");
  }
  text += "backends\n";
  for (const Availability& a : facts.backends) {
    text += fmt::format("  {:<9} on {:<7} {}\n", to_string(a.backend), a.device,
                        a.path.empty() ? "does not run: " + a.why_not : "runs: " + a.path);
  }
  return text;
}

int run_info(bool as_json) {
  Facts facts;
  find_devices(facts);
  try_backends(facts);
  fmt::print("{}", as_json ? to_json(facts).dump(2) + '\n' : to_text(facts));
  return kAllPassed;
}

}  // namespace

Command add_info(CLI::App& app) {
  app.description("Show the build, the machine's devices, and which backends run.");
  app.footer(kInfoFooter);
  const auto json = std::make_shared<bool>(false);
  app.add_flag("--json", *json, "Print JSON");
  return [json] { return run_info(*json); };
}

}  // namespace blockmoe::cli
