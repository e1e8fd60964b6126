// pruning.h: which of its local picks a token drops where the caller gives up exactness for fewer rows.
//
//   share = |weight of a pick| / sum of |weight| over the token's picks, in pick order, on this rank or not
//   a local pick is dropped where its share is below min_weight_share, that is where |weight| < min_weight_share * sum
//   of the local picks no more than max_local_picks stay: those of largest |weight|, ties to the one that stands first
//   the weights of those that stay are not changed
//
// A NaN is larger than any number, so it stays; with a NaN among the token's weights the sum is NaN, and no share is below
// anything.
#pragma once

#include "contract/host_device.h"

namespace blockmoe::contract {

struct Pruning {
  std::int32_t max_local_picks = 0;  // 0: all stay
  float min_weight_share = 0.0f;     // in [0, 1); 0: no share is too small

  bool is_on() const { return max_local_picks != 0 || min_weight_share != 0.0f; }
};

// One token's picks, in pick order; bit j of the sets is pick j.
struct TokenPicks {
  const float* weight;   // [count]
  std::int32_t count;    // at most 32
  std::uint32_t picked;  // those of an expert that the model has
  std::uint32_t local;   // those of them that are rows of this rank
};

BLOCKMOE_HD bool is_in(std::uint32_t set, std::int32_t pick) {
  return (set >> pick & 1u) != 0u;
}

// |weight| as an integer that orders as it does, NaN above all numbers.
BLOCKMOE_HD std::uint32_t magnitude_key(float weight) {
  return bits_of(weight) & 0x7fffffffu;
}

// The least |weight| that a local pick of the token must have.
BLOCKMOE_HD float least_magnitude(const Pruning& rule, const TokenPicks& picks) {
  float sum = 0.0f;
  for (std::int32_t j = 0; j < picks.count; ++j) {
    if (is_in(picks.picked, j)) sum = rn::add(sum, float_of(magnitude_key(picks.weight[j])));
  }
  return rn::mul(rule.min_weight_share, sum);
}

// Whether `pick`, a local one, stays. Whoever stands before it by |weight| has no smaller share, so the two rules may be
// asked one by one.
BLOCKMOE_HD bool stays(const Pruning& rule, const TokenPicks& picks, float least, std::int32_t pick) {
  const std::uint32_t key = magnitude_key(picks.weight[pick]);
  if (float_of(key) < least) return false;
  if (rule.max_local_picks == 0) return true;
  std::int32_t before = 0;
  for (std::int32_t j = 0; j < picks.count; ++j) {
    const std::uint32_t other = magnitude_key(picks.weight[j]);
    before += static_cast<std::int32_t>(is_in(picks.local, j) && (other > key || (other == key && j < pick)));
  }
  return before < rule.max_local_picks;
}

// The local picks that stay.
BLOCKMOE_HD std::uint32_t kept_picks(const Pruning& rule, const TokenPicks& picks) {
  const float least = least_magnitude(rule, picks);
  std::uint32_t kept = 0;
  for (std::int32_t j = 0; j < picks.count; ++j) {
    if (is_in(picks.local, j) && stays(rule, picks, least, j)) kept |= 1u << j;
  }
  return kept;
}

}  // namespace blockmoe::contract
