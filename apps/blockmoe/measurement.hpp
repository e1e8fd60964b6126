// measurement.hpp: what is known of one implementation on one workload, whoever found it out.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "pruning_report.hpp"
#include "verify/compare.hpp"

namespace blockmoe::cli {

// A call of this library against the oracle.
struct Check {
  std::int64_t rows = 0;            // local picks of all tokens
  std::int32_t active_experts = 0;  // local experts with a row
  verify::Comparison comparison;
  std::optional<PruningCost> pruning_cost;  // of a pruned call, whose comparison is with an oracle that prunes too
};

struct Measurement {
  bool passed = false;
  std::optional<double> latency_us;
  std::string why_failed;  // one line; empty when passed
  nlohmann::ordered_json detail;
  std::optional<Check> check;  // where this library ran
};

}  // namespace blockmoe::cli
