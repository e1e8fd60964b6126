#include "given_picks.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <limits>
#include <random>
#include <set>

#include "contract/host_device.h"
#include "plan/sizes.h"
#include "routing_reference.hpp"
#include "stages/layout.h"

namespace blockmoe::test {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// For each pick of the token its local number, or -1 where it is to be skipped.
std::vector<std::int32_t> taken_of(const GivenPicks& given, const contract::Geometry& g, std::int32_t offset,
                                   std::int64_t token, const contract::Pruning& pruning = {}) {
  std::vector<std::int32_t> taken;
  std::vector<float> weights;
  std::set<std::int64_t> seen;
  std::uint32_t picked = 0;
  std::uint32_t rows = 0;
  for (std::int32_t j = 0; j < given.top_k; ++j) {
    const std::int64_t expert = given.expert(token, j);
    const std::int64_t local = expert - offset;
    const bool exists = expert >= 0 && expert < g.experts;
    const bool here = exists && local >= 0 && local < g.local_experts && seen.insert(expert).second;
    taken.push_back(here ? static_cast<std::int32_t>(local) : -1);
    weights.push_back(given.weight(token, j));
    picked |= static_cast<std::uint32_t>(exists) << j;
    rows |= static_cast<std::uint32_t>(here) << j;
  }
  rows = kept_by_sorting(pruning, {weights.data(), given.top_k, picked, rows});
  for (std::int32_t j = 0; j < given.top_k; ++j) {
    if ((rows >> j & 1U) == 0) taken[static_cast<std::size_t>(j)] = -1;
  }
  return taken;
}

}  // namespace

GivenPicks::GivenPicks(std::int64_t tokens_, std::int32_t top_k_, std::int64_t extra_pitch)
    : tokens(tokens_),
      top_k(top_k_),
      experts_pitch(top_k_ + extra_pitch),
      weights_pitch(top_k_ + 2 * extra_pitch),
      experts(static_cast<std::size_t>(tokens_ * experts_pitch), 0),
      weights(static_cast<std::size_t>(tokens_ * weights_pitch), kNaN) {}

GivenPicks picks_of_routing(const contract::Geometry& geometry, const contract::Weights& weights,
                            const contract::Activations& activations, std::int64_t extra_pitch) {
  contract::Geometry everywhere = geometry;
  everywhere.local_experts = geometry.experts;
  contract::Weights from_zero = weights;
  from_zero.local_expert_offset = 0;
  const auto routing = reference_routing(everywhere, from_zero, activations);
  GivenPicks picks(activations.tokens, geometry.top_k, extra_pitch);
  for (std::int64_t t = 0; t < picks.tokens; ++t) {
    for (std::int32_t j = 0; j < picks.top_k; ++j) {
      const LocalPick& pick = routing[static_cast<std::size_t>(t)].at(static_cast<std::size_t>(j));
      picks.expert(t, j) = pick.expert;
      picks.weight(t, j) = contract::float_of(pick.weight_bits);
    }
  }
  return picks;
}

GivenPicks hostile_picks(const contract::Geometry& geometry, std::int32_t local_expert_offset, std::int64_t tokens,
                         std::uint32_t seed, std::int64_t extra_pitch) {
  std::mt19937 random(seed);
  const auto below = [&](std::int32_t end) {
    return static_cast<std::int32_t>(random() % static_cast<std::uint32_t>(end));
  };
  const std::int32_t none[] = {-1, geometry.experts, std::numeric_limits<std::int32_t>::min(),
                               std::numeric_limits<std::int32_t>::max()};
  const auto draw = [&](std::int32_t kind) -> std::int32_t {
    switch (kind) {
      case 0:
        return none[below(4)];
      case 1:
        return static_cast<std::int32_t>(random());
      case 2:  // in reach of the offset, wherever that is
        return static_cast<std::int32_t>(static_cast<std::uint32_t>(local_expert_offset) +
                                         static_cast<std::uint32_t>(below(geometry.local_experts)));
      default:
        return below(geometry.experts);
    }
  };
  GivenPicks picks(tokens, geometry.top_k, extra_pitch);
  for (std::int64_t t = 0; t < tokens; ++t) {
    for (std::int32_t j = 0; j < picks.top_k; ++j) {
      const bool repeats = j > 0 && below(4) == 0;
      picks.expert(t, j) = repeats ? picks.expert(t, below(j)) : draw(below(5));
      picks.weight(t, j) = contract::float_of(static_cast<std::uint32_t>(random()));
    }
  }
  return picks;
}

GivenPicks without_skipped(const GivenPicks& given, const contract::Geometry& geometry,
                           std::int32_t local_expert_offset) {
  GivenPicks left = given;
  for (std::int64_t t = 0; t < given.tokens; ++t) {
    const std::vector<std::int32_t> taken = taken_of(given, geometry, local_expert_offset, t);
    for (std::int32_t j = 0; j < given.top_k; ++j) {
      if (taken[static_cast<std::size_t>(j)] >= 0) continue;
      left.expert(t, j) = -1;
      left.weight(t, j) = kNaN;
    }
  }
  return left;
}

void expect_taken(const GivenPicks& given, const contract::Geometry& geometry, std::int32_t local_expert_offset,
                  const TakenPicks& found, const contract::Pruning& pruning) {
  namespace plan = kernels::plan;
  const std::int64_t picks = geometry.max_local_picks();
  const std::int64_t pitch = kernels::stages::counts_pitch(geometry.local_experts);
  const std::int64_t blocks = (given.tokens + plan::kTokenBlock - 1) / plan::kTokenBlock;
  std::vector<std::int32_t> pick_expert(static_cast<std::size_t>(given.tokens * picks), -1);
  std::vector<std::uint8_t> block_counts(static_cast<std::size_t>(blocks * pitch), 0);
  std::vector<std::int32_t> block_rows(static_cast<std::size_t>(blocks), 0);
  std::int64_t wrong_weights = 0;
  for (std::int64_t t = 0; t < given.tokens; ++t) {
    const std::vector<std::int32_t> taken = taken_of(given, geometry, local_expert_offset, t, pruning);
    const std::int64_t block = t / plan::kTokenBlock;
    std::int64_t slot = t * picks;
    for (std::int32_t j = 0; j < given.top_k; ++j) {
      const std::int32_t local = taken[static_cast<std::size_t>(j)];
      if (local < 0) continue;
      const float weight = found.pick_weight.at(static_cast<std::size_t>(slot));
      wrong_weights += contract::bits_of(weight) != contract::bits_of(given.weight(t, j)) ? 1 : 0;
      pick_expert.at(static_cast<std::size_t>(slot++)) = local;
      ++block_counts[static_cast<std::size_t>(block * pitch + local)];
      ++block_rows[static_cast<std::size_t>(block)];
    }
  }
  EXPECT_EQ(pick_expert, found.pick_expert);
  EXPECT_EQ(0, wrong_weights);
  EXPECT_EQ(block_counts, found.block_counts);
  EXPECT_EQ(block_rows, found.block_rows);
}

}  // namespace blockmoe::test
