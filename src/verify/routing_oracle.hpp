// routing_oracle.hpp: which experts each token picks and with what weight, in FP64, without the contract's code.
//
//   routing_logits [T, E], routing_bias [E] -> a TokenRouting a token
//
// A backend routes in fp32, so two scores that differ in FP64 may be one fp32 number, or stand the other way round when
// they lie within the error that the contract allows its sigmoid. Each score therefore is an interval of fp32 numbers
// that holds whatever a backend within the contract computes; addition of the bias and of a group's two scores round
// monotonically, so intervals carry through. Two experts with the same logit and the same bias are an exact tie in any
// arithmetic. A choice that the intervals do not decide makes every outcome that they allow an alternative.
#pragma once

#include <cstdint>
#include <vector>

#include "contract/call.h"
#include "contract/geometry.h"
#include "contract/pruning.h"
#include "verify/choice_sets.hpp"

namespace blockmoe::verify {

struct Pick {
  std::int32_t expert;  // global number
  double weight;        // s / (sum of s + 1e-20) * routed_scaling_factor
};

struct TokenRouting {
  // Every set of picks that a backend within the contract may choose; nearly always one. Each is [top_k], less the local
  // ones that pruning drops, ascending by expert. Empty: more than kMaxAlternatives sets are possible, so the token's row can't be foretold.
  std::vector<std::vector<Pick>> alternatives;
  bool non_finite = false;  // a logit or a bias is NaN or infinite
  bool tie = false;         // the tie rule decided about a group or a pick
};

/// fp32 numbers on either side of the correctly rounded sigmoid within which a backend's sigmoid may lie. The contract's
/// is within 2.5 ulp of the true value, exactly 1 where that is within 2^-26 of 1, exactly 0 where it is below 2^-150.
inline constexpr int kSigmoidSteps = 4;

TokenRouting route_token(const contract::Geometry& geometry, const contract::Weights& weights,
                         const contract::Activations& activations, std::int64_t token,
                         const contract::Pruning& pruning = {});

/// All T tokens. `threads` 0 = all that the process may run on.
std::vector<TokenRouting> route_tokens(const contract::Geometry& geometry, const contract::Weights& weights,
                                       const contract::Activations& activations, int threads,
                                       const contract::Pruning& pruning = {});

}  // namespace blockmoe::verify
