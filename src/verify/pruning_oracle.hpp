// pruning_oracle.hpp: which local picks pruning leaves (docs/numerics.md), without the contract's code.
//
// A backend compares fp32 weights. Two that lie within the contract's error, or a share that lies so near to the least one,
// make every outcome that they allow an alternative (routing_oracle.hpp).
#pragma once

#include <cstdint>
#include <vector>

#include "contract/pruning.h"
#include "verify/choice_sets.hpp"

namespace blockmoe::verify {

/// A pick's s and b: on every backend within these bounds, and the same for the same logit (and bias).
struct PickScores {
  std::int32_t expert;  // global number
  bool is_local;
  float logit;
  float bias;
  float s_low;
  float s_high;
  float b_low;
  float b_high;
};

/// Of one token's picks, every set of local experts that may stay, each ascending. Empty: too many.
std::vector<Numbers> prune(const std::vector<PickScores>& picks, float routed_scaling_factor,
                           const contract::Pruning& rule);

}  // namespace blockmoe::verify
