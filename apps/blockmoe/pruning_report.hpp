// pruning_report.hpp: how reports mark results of a pruned call, and what they say of its cost. A pruned figure never stands
// unmarked.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "blockmoe/moe.hpp"
#include "contract/pruning.h"

namespace blockmoe::cli {

inline constexpr const char* kPruned = "PRUNED";

// What the caller gave up on one workload, against the exact layer.
struct PruningCost {
  std::int64_t picks = 0;      // local picks of all tokens
  std::int64_t dropped = 0;    // of them
  double matched_ratio = 1.0;  // of the elements, as the tolerance counts them
  double rel_l2 = 0.0;         // |output - exact| / |exact|, of the oracle that requantises
};

contract::Pruning contract_of(const Pruning& pruning);

// "PRUNED: at most 3 local picks a token, each with at least 0.05 of its token's weights"; empty where it is off.
std::string mark_of(const Pruning& pruning);

// {"mark", "max_local_picks", "min_weight_share"}; null where it is off.
nlohmann::ordered_json to_json(const Pruning& pruning);
nlohmann::ordered_json to_json(const PruningCost& cost);

}  // namespace blockmoe::cli
