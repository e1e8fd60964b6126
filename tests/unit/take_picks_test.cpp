// The GPU's kernel that takes the caller's picks (kernels/stages/take_picks.cu), compiled for the host and run thread by
// thread: what brute force takes of any ids, in the layout that pack reads.
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "given_picks.hpp"
#include "stages/take_picks.cu"  // device_on_host/ stands in for CUDA

namespace blockmoe::kernels::stages {
namespace {

alignas(16) char shared[contract::kMaxExperts * sizeof(std::int32_t)];

}  // namespace
}  // namespace blockmoe::kernels::stages

namespace blockmoe::test {
namespace {

namespace stages = kernels::stages;

// In buffers without a byte to spare, for the sanitizers.
TakenPicks take(const GivenPicks& given, const contract::Geometry& geometry, std::int32_t offset,
                const contract::Pruning& pruning = {}) {
  const std::int64_t blocks = (given.tokens + kernels::plan::kTokenBlock - 1) / kernels::plan::kTokenBlock;
  const auto slots = static_cast<std::size_t>(given.tokens * geometry.max_local_picks());
  TakenPicks taken;
  taken.pick_expert.assign(slots, -2);
  taken.pick_weight.assign(slots, 0.0F);
  taken.block_counts.assign(static_cast<std::size_t>(blocks * stages::counts_pitch(geometry.local_experts)), 0xff);
  taken.block_rows.assign(static_cast<std::size_t>(blocks), -2);
  stages::Slab slab;
  slab.geometry = geometry;
  slab.weights.local_expert_offset = offset;
  slab.activations.tokens = given.tokens;
  slab.sizes.picks = geometry.max_local_picks();
  slab.pruning = pruning;
  slab.given_picks = {.experts = given.experts.data(),
                      .experts_pitch = given.experts_pitch,
                      .weights = given.weights.data(),
                      .weights_pitch = given.weights_pitch};
  slab.workspace.pick_expert = taken.pick_expert.data();
  slab.workspace.pick_weight = taken.pick_weight.data();
  slab.workspace.block_counts = taken.block_counts.data();
  slab.workspace.block_rows = taken.block_rows.data();
  EXPECT_TRUE(stages::launch_take_picks(slab, nullptr).ok());
  return taken;
}

TEST(TakePicks, any_ids_give_what_brute_force_takes) {
  constexpr std::int32_t kLeast = std::numeric_limits<std::int32_t>::min();
  constexpr std::int32_t kMost = std::numeric_limits<std::int32_t>::max();
  constexpr std::int64_t kTokens[] = {1, 31, 32, 67};
  std::uint32_t seed = 0;
  for (const std::int32_t top_k : {1, 2, 3, 8, 17, 32}) {
    for (const std::int32_t local : {1, 5, 32, 33, 48}) {
      for (const std::int32_t offset : {0, 7, -3, 40, kLeast, kLeast + 100, kMost, kMost - 40}) {
        const std::int64_t tokens = kTokens[++seed % 4];
        SCOPED_TRACE("K " + std::to_string(top_k) + " L " + std::to_string(local) + " from " + std::to_string(offset) +
                     " T " + std::to_string(tokens));
        const contract::Geometry geometry = {128, 128, 48, local, top_k, 1, 1};
        const GivenPicks given = hostile_picks(geometry, offset, tokens, seed, seed % 3);
        expect_taken(given, geometry, offset, take(given, geometry, offset));
      }
    }
  }
}

TEST(TakePicks, pruning_leaves_what_sorting_does) {
  std::uint32_t seed = 100;
  for (const std::int32_t top_k : {1, 2, 3, 8, 17, 32}) {
    for (const std::int32_t local : {1, 5, 48}) {
      for (const contract::Pruning pruning : {contract::Pruning{1, 0}, {3, 0}, {0, 0.1F}, {0, 0.5F}, {2, 0.05F}}) {
        SCOPED_TRACE("K " + std::to_string(top_k) + " L " + std::to_string(local) + " seed " + std::to_string(++seed));
        const contract::Geometry geometry = {128, 128, 48, local, top_k, 1, 1};
        GivenPicks given = hostile_picks(geometry, 0, 35, seed, seed % 3);
        // Bits of any weights are too far apart for a share to be close: half the tokens have a few plain ones.
        for (std::int64_t t = 0; t < given.tokens; t += 2) {
          for (std::int32_t j = 0; j < top_k; ++j) given.weight(t, j) = static_cast<float>((t + j * 7) % 5) - 1;
        }
        expect_taken(given, geometry, 0, take(given, geometry, 0, pruning), pruning);
      }
    }
  }
}

TEST(TakePicks, a_thousand_local_experts) {
  for (const std::int32_t top_k : {1, 32}) {
    const contract::Geometry geometry = {128, 128, 1024, 1024, top_k, 1, 1};
    const GivenPicks given = hostile_picks(geometry, 0, 40, 77);
    expect_taken(given, geometry, 0, take(given, geometry, 0));
  }
}

TEST(TakePicks, one_expert_of_all_tokens_and_all_picks) {
  const contract::Geometry geometry = {128, 128, 16, 2, 8, 1, 1};
  GivenPicks given(64, 8);
  given.experts.assign(given.experts.size(), 5);
  const TakenPicks taken = take(given, geometry, 4);
  expect_taken(given, geometry, 4, taken);
  EXPECT_EQ(taken.block_rows, (std::vector<std::int32_t>{32, 32}));
}

}  // namespace
}  // namespace blockmoe::test
