// routing.h: the arithmetic and the tie rules of routing; the loops around them belong to each backend.
//
//   s = sigmoid(logit)              s that is NaN counts as 0
//   b = s + bias                    NaN becomes -FLT_MAX; clamped to +-FLT_MAX
//   a group's score = sum of its two largest b (its only b where a group has one expert)
//   the topk_group best groups are kept; of their experts the top_k with the largest b are picked
//   ties go to the lower group and to the lower expert; picks stand in the order (b descending, expert ascending)
//   weight = s / (sum of s over all picks, in that order, + 1e-20) * routed_scaling_factor
#pragma once

#include <cfloat>

#include "contract/exp.h"
#include "contract/host_device.h"

namespace blockmoe::contract {

BLOCKMOE_HD float mixing_score(float logit) {
  const float s = sigmoid(logit);
  return s != s ? 0.0f : s;
}

// `b` of the rules above. A NaN logit must give a NaN here, so this takes the plain sigmoid and not mixing_score.
BLOCKMOE_HD float choice_score(float sigmoid_of_logit, float bias) {
  const float b = rn::add(sigmoid_of_logit, bias);
  if (b != b) return -FLT_MAX;
  const float clamped = b > FLT_MAX ? FLT_MAX : (b < -FLT_MAX ? -FLT_MAX : b);
  return rn::add(clamped, 0.0f);  // -0 becomes +0: they are one value, hence a tie
}

// Two scores and their numbers, compared as the rules say, become one comparison of unsigned keys: the larger key wins.
// Every key of a candidate is greater than 0, so 0 stands for "none". `score` may be infinite (a group's sum), not NaN.
BLOCKMOE_HD std::uint64_t choice_key(float score, std::uint32_t number) {
  const std::uint32_t bits = bits_of(score);
  const std::uint32_t ordered = (bits & 0x80000000u) != 0u ? ~bits : bits | 0x80000000u;
  return (static_cast<std::uint64_t>(ordered) << 32) | (0xffffffffu - number);
}

BLOCKMOE_HD std::uint32_t number_of_key(std::uint64_t key) {
  return 0xffffffffu - static_cast<std::uint32_t>(key);
}

BLOCKMOE_HD float group_score(float largest, float second) {
  return rn::add(rn::add(largest, second), 0.0f);
}

BLOCKMOE_HD float routing_weight(float s, float sum_of_s, float routed_scaling_factor) {
  return rn::mul(rn::div(s, rn::add(sum_of_s, 1e-20f)), routed_scaling_factor);
}

}  // namespace blockmoe::contract
