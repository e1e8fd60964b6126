#include "library_check.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "error.hpp"

namespace blockmoe::cli {
namespace {

using nlohmann::ordered_json;

ordered_json to_json(const verify::LargestError& largest) {
  if (largest.token < 0) return nullptr;
  return {{"token", largest.token},
          {"column", largest.column},
          {"got", largest.got},
          {"expected", largest.expected},
          {"error", largest.error}};
}

ordered_json to_json(const verify::WorstRow& worst) {
  if (worst.token < 0) return nullptr;
  return {{"token", worst.token}, {"rel_l2", worst.rel_l2}};
}

ordered_json to_json(const verify::Comparison& c) {
  return {{"checked_tokens", c.checked_tokens},
          {"matched_ratio", c.matched_ratio},
          {"rel_l2_requantised", c.rel_l2_requantised},
          {"rel_l2_plain", c.rel_l2_plain},
          {"worst_row", to_json(c.worst_row)},
          {"largest_error", to_json(c.largest)},
          {"unexpected_non_finite", c.unexpected_non_finite},
          {"missing_non_finite", c.missing_non_finite},
          {"nonzero_without_pick", c.nonzero_without_pick},
          {"not_promised", c.not_promised}};
}

ordered_json to_json(const CallTimes& times) {
  return {{"median_us", times.median_us},
          {"min_us", times.min_us},
          {"max_us", times.max_us},
          {"runs", times.runs},
          {"how", times.how}};
}

}  // namespace

LibraryCheck::LibraryCheck(const BackendOptions& backend, const DrawOptions& draw,
                           std::optional<verify::OracleScope> scope, const verify::Tolerance& tolerance)
    : device_(backend.device_info()),
      draw_(draw),
      tolerance_(tolerance),
      two_terms_(backend.plan_options().intermediate_type == IntermediateType::e4m3x2),
      maker_(draw.input_options(backend.threads)),
      caller_(device_, backend.plan_options()) {
  const bool on_gpu = device_.device.type == DeviceType::cuda;
  oracle_options_.scope = scope.value_or(on_gpu ? verify::OracleScope::full : verify::OracleScope::sample);
  oracle_options_.threads = backend.threads;
  oracle_options_.pruning = contract_of(backend.pruning);
}

Measurement LibraryCheck::measure(const workload::Workload& given, Progress& progress) {
  workload::Workload row = given;
  draw_.apply_seed(row);
  progress.show("making inputs");
  const workload::Inputs inputs = value_or_raise(maker_.make(row));
  keep_notes(inputs.notes);
  progress.show("running");
  const CallResult call = caller_.call(inputs);
  progress.show("comparing with the oracle");
  oracle_options_.seed = row.seed;
  oracle_options_.products = caller_.oracle_products();
  timing_ = call.times.how;
  const verify::OracleResult oracle =
      verify::run_oracle(inputs.geometry, inputs.weights, inputs.activations, oracle_options_);
  unusual_.tokens += oracle.routing.unusual_tokens;
  unusual_.checked += oracle.unusual_checked;
  gates_ = two_terms_                     ? verify::kTwoTermGates
           : call.backend == Backend::cpu ? verify::kCpuGates
                                          : verify::kTensorCoreGates;
  const verify::Comparison comparison =
      verify::compare(oracle, call.output.data(), inputs.geometry.hidden, tolerance_, gates_);

  Measurement found;
  found.check = Check{oracle.routing.rows, oracle.routing.active_experts, comparison, {}};
  if (oracle_options_.pruning.is_on()) found.check->pruning_cost = pruning_cost(inputs, call, oracle.routing.rows);
  found.passed = comparison.within_tolerance && comparison.within_gates && call.repeatable;
  found.latency_us = call.times.median_us;
  found.why_failed = comparison.fault;
  if (!call.repeatable)
    found.why_failed +=
        (found.why_failed.empty() ? "" : "; ") + std::string("two calls on the same inputs gave different bits");
  found.detail = {{"source", "blockmoe"},
                  {"path", call.path},
                  {"gemm1_path", call.gemm1_path},
                  {"gemm2_path", call.gemm2_path},
                  {"profile", draw_.profile},
                  {"routing", draw_.routing},
                  {"seed", row.seed},
                  {"rows", oracle.routing.rows},
                  {"active_experts", oracle.routing.active_experts},
                  {"unusual_tokens", oracle.routing.unusual_tokens},
                  {"unusual_checked", oracle.unusual_checked},
                  {"comparison", to_json(comparison)},
                  {"gates", {{"rel_l2_requantised", gates_.requantised}, {"rel_l2_plain", gates_.plain}}},
                  {"repeatable", call.repeatable},
                  {"latency", to_json(call.times)}};
  if (found.check->pruning_cost) found.detail["pruning"] = to_json(*found.check->pruning_cost);
  if (!found.passed) found.detail["error"] = found.why_failed;
  return found;
}

PruningCost LibraryCheck::pruning_cost(const workload::Inputs& inputs, const CallResult& call,
                                       std::int64_t rows) const {
  verify::OracleOptions exact = oracle_options_;
  exact.pruning = {};
  const verify::OracleResult oracle = verify::run_oracle(inputs.geometry, inputs.weights, inputs.activations, exact);
  const verify::Comparison c = verify::compare(oracle, call.output.data(), inputs.geometry.hidden, tolerance_, gates_);
  return {oracle.routing.rows, oracle.routing.rows - rows, c.matched_ratio, c.rel_l2_requantised};
}

std::string LibraryCheck::reference() const {
  const std::string oracle = oracle_options_.pruning.is_on() ? "FP64 oracle that prunes too" : "FP64 oracle";
  if (oracle_options_.scope == verify::OracleScope::full) return oracle + ", every token";
  return oracle +
         fmt::format(
             ", {} sampled tokens a shape and those of unusual routing{}", oracle_options_.sampled_tokens,
             device_.device.type == DeviceType::cuda ? "" : fmt::format(" (at most {})", verify::kMaxUnusualOnCpu));
}

std::vector<std::string> LibraryCheck::notes() const {
  std::vector<std::string> notes = notes_;
  if (unusual_.checked < unusual_.tokens) {
    notes.push_back(fmt::format("{} tokens of unusual routing were not checked; --oracle full checks every token",
                                unusual_.tokens - unusual_.checked));
  }
  return notes;
}

void LibraryCheck::keep_notes(const std::vector<std::string>& notes) {
  for (const std::string& note : notes) {
    if (std::find(notes_.begin(), notes_.end(), note) == notes_.end()) notes_.push_back(note);
  }
}

}  // namespace blockmoe::cli
