// plan.cpp: `blockmoe plan`: which path a call would take, why, and the workspace that it needs. Runs nothing.
#include <fmt/format.h>

#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "blockmoe/moe.hpp"
#include "commands.hpp"
#include "error.hpp"
#include "options.hpp"

namespace blockmoe::cli {
namespace {

struct PlanOptions {
  BackendOptions backend;
  GeometryOptions geometry;
  std::int64_t max_tokens = 4096;
  std::int32_t max_sms = 0;
  bool gate_first = false;
  bool json = false;
};

constexpr const char* kPlanFooter =
    R"(The device need not be here: an architecture (sm_80, sm_90a, sm_100a) stands for its usual part.

Examples:
  blockmoe plan                                        the CPU, DeepSeek-V3's geometry
  blockmoe plan --device sm_90a --max-tokens 16384     an H100 or H200 that need not be here
  blockmoe plan --device sm_100a --policy reference_b200
  blockmoe plan --hidden 2048 --intermediate 1024 --json)";

void add_options(CLI::App& app, PlanOptions& o) {
  app.add_option("--max-tokens", o.max_tokens, "Largest T of any call")
      ->type_name("T")
      ->check(whole_number(0, contract::kMaxTokens))
      ->capture_default_str();
  app.add_option("--max-sms", o.max_sms, "Multiprocessors that a call may use; 0 is all")
      ->type_name("N")
      ->check(whole_number(0, std::numeric_limits<std::int32_t>::max()))
      ->capture_default_str();
  app.add_flag("--gate-first", o.gate_first, "gemm1_weights holds gate rows first, then up rows");
  app.add_flag("--json", o.json, "Print JSON");
  o.backend.add(app);
  app.get_option("--device")
      ->description(
          "For what: cpu, cuda, cuda:N or an architecture such as sm_90a; auto is cuda where there is one, else cpu");
  o.geometry.add(app);
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

// The user's word, unless that leaves it to the command.
std::string device_word(const PlanOptions& o, const DeviceInfo& device) {
  return o.backend.device == "auto" ? to_string(device.device) : o.backend.device;
}

std::string_view word_of(WorkspaceInit init) {
  return init == WorkspaceInit::anything ? "anything" : "zeroed_once";
}

nlohmann::ordered_json to_json(const PlanOptions& o, const DeviceInfo& device, const Plan& plan) {
  const contract::Geometry& g = o.geometry.geometry;
  const WorkspaceNeed need = plan.workspace();
  return {{"device",
           {{"device", device_word(o, device)},
            {"name", device.name},
            {"compute_capability", device.compute_capability},
            {"sm_count", device.sm_count}}},
          {"geometry",
           {{"hidden", g.hidden},
            {"intermediate", g.intermediate},
            {"experts", g.experts},
            {"local_experts", g.local_experts},
            {"top_k", g.top_k},
            {"n_group", g.n_group},
            {"topk_group", g.topk_group}}},
          {"max_tokens", o.max_tokens},
          {"backend", to_string(plan.backend())},
          {"path", plan.path()},
          {"gemm1_path", plan.gemm1_path()},
          {"gemm2_path", plan.gemm2_path()},
          {"explain", lines_of(plan.explain())},
          {"workspace", {{"bytes", need.bytes}, {"alignment", need.alignment}, {"init", word_of(need.init)}}}};
}

std::string to_text(const PlanOptions& o, const DeviceInfo& device, const Plan& plan) {
  const contract::Geometry& g = o.geometry.geometry;
  const WorkspaceNeed need = plan.workspace();
  std::string text;
  text += fmt::format("device      {} ({})\n", device_word(o, device), device.name);
  text += fmt::format("geometry    H {}, I {}, E {}, L {}, top_k {}, n_group {}, topk_group {}\n", g.hidden,
                      g.intermediate, g.experts, g.local_experts, g.top_k, g.n_group, g.topk_group);
  text += fmt::format("max tokens  {}\n", o.max_tokens);
  text += fmt::format("path        {}\n", plan.path());
  text += fmt::format("workspace   {} bytes, aligned to {}, {}\n", need.bytes, need.alignment,
                      need.init == WorkspaceInit::anything ? "whatever it holds" : "zeroed before the first call");
  text += "why\n";
  for (const std::string& line : lines_of(plan.explain())) text += fmt::format("  {}\n", line);
  return text;
}

// As BackendOptions::device_info(), or an architecture that need not be here.
DeviceInfo device_of(const PlanOptions& o) {
  const std::string& word = o.backend.device;
  if (word.substr(0, 3) != "sm_") return o.backend.device_info();
  const Result<DeviceInfo> info = describe_device(word);
  if (info.ok()) return info.value();
  refuse("--device", word, "cpu, cuda, cuda:N or an architecture", info.status().message());
}

int run_plan(const PlanOptions& o) {
  o.geometry.require_valid();
  const DeviceInfo device = device_of(o);
  Options options = o.backend.plan_options();
  options.max_sms = o.max_sms;
  options.gate_first = o.gate_first;
  const Plan plan = value_or_raise(Plan::create(o.geometry.as_public(), o.max_tokens, device, options));
  fmt::print("{}", o.json ? to_json(o, device, plan).dump(2) + '\n' : to_text(o, device, plan));
  return kAllPassed;
}

}  // namespace

Command add_plan(CLI::App& app) {
  app.description("Show which path a call would take, why, and the workspace that it needs.");
  app.footer(kPlanFooter);
  const auto options = std::make_shared<PlanOptions>();
  add_options(app, *options);
  return [options] { return run_plan(*options); };
}

}  // namespace blockmoe::cli
