// The GPU's grouped routing (kernels/stages/route_grouped.cu), compiled for the host and run thread by thread: bit-equal to
// brute force, with approximate sigmoids as wrong as they may be.
#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "contract/e4m3.h"
#include "contract/routing.h"
#include "routing_reference.hpp"
#include "routing_rows.hpp"
#include "stages/route_grouped.cu"  // device_on_host/ stands in for CUDA

namespace blockmoe::kernels::stages {
namespace {

alignas(16) char shared[256 * 1024];

}  // namespace
}  // namespace blockmoe::kernels::stages

namespace blockmoe::test {
namespace {

namespace stages = kernels::stages;
using contract::FloatType;

std::vector<std::uint16_t> encoded(const std::vector<float>& values) {
  std::vector<std::uint16_t> all;
  all.reserve(values.size());
  for (const float x : values) all.push_back(contract::bf16_encode(x));
  return all;
}

// Logits and bias of a call in which every expert is local: all picks show.
struct Rows {
  std::vector<float> logits;  // [T, 256]
  std::vector<float> bias;    // [256], or empty
  FloatType logits_type = FloatType::f32;
  contract::Pruning pruning = {};
};

struct Buffers {
  std::vector<std::int32_t> pick_expert, block_rows, expert_begin, row_to_token, pick_row;
  std::vector<float> pick_weight;
  std::vector<std::uint8_t> block_counts;
  std::vector<stages::Chunk> chunks;
};

enum class Kernel { route_grouped, route_grouped_alone, route_and_pack };  // alone: nobody packs, so nothing is counted

// Tokens whose picks or weights differ from the reference.
std::int64_t wrong_tokens(const Rows& rows, Kernel kernel) {
  stages::Slab slab;
  slab.geometry.local_experts = slab.geometry.experts;
  const auto experts = static_cast<std::size_t>(slab.geometry.experts);
  const std::size_t tokens = rows.logits.size() / experts;
  const std::vector<std::uint16_t> narrow = encoded(rows.logits);
  const bool wide = rows.logits_type == FloatType::f32;
  slab.activations.tokens = static_cast<std::int64_t>(tokens);
  slab.activations.routing_logits = wide ? static_cast<const void*>(rows.logits.data()) : narrow.data();
  slab.activations.routing_logits_type = rows.logits_type;
  slab.activations.routing_logits_pitch = slab.geometry.experts;
  slab.weights.routing_bias = rows.bias.empty() ? nullptr : rows.bias.data();
  slab.weights.routing_bias_type = FloatType::f32;
  slab.weights.routed_scaling_factor = 2.5F;
  slab.pruning = rows.pruning;
  slab.sizes.picks = slab.geometry.top_k;
  slab.sizes.max_chunks = 1;
  slab.shared_memory = static_cast<std::int32_t>(sizeof stages::shared);

  const auto picks = static_cast<std::size_t>(slab.sizes.picks);
  const std::size_t blocks = (tokens + 31) / 32;
  Buffers b;
  b.pick_expert.assign(tokens * picks, -2);
  b.pick_weight.assign(tokens * picks, 0.0F);
  b.block_counts.assign(blocks * experts, 0);
  b.block_rows.assign(blocks, 0);
  b.chunks.resize(1);
  b.expert_begin.assign(experts + 1, 0);
  b.row_to_token.assign(tokens * picks, -2);
  b.pick_row.assign(tokens * picks, -2);
  slab.workspace.pick_expert = b.pick_expert.data();
  slab.workspace.pick_weight = b.pick_weight.data();
  slab.workspace.block_counts = b.block_counts.data();
  slab.workspace.block_rows = b.block_rows.data();
  slab.workspace.chunks = b.chunks.data();
  slab.workspace.expert_begin = b.expert_begin.data();
  slab.workspace.row_to_token = b.row_to_token.data();
  slab.workspace.pick_row = b.pick_row.data();
  if (kernel == Kernel::route_grouped_alone) slab.workspace.block_counts = nullptr;
  if (kernel != Kernel::route_and_pack) {
    EXPECT_TRUE(stages::launch_route_grouped(slab, nullptr).ok());
  } else {
    EXPECT_TRUE(stages::fits_one_cta(slab));
    EXPECT_TRUE(stages::launch_route_and_pack(slab, nullptr).ok());
  }

  const auto expected = reference_routing(slab.geometry, slab.weights, slab.activations, slab.pruning);
  std::int64_t wrong = 0;
  for (std::size_t t = 0; t < tokens; ++t) {
    bool right = true;
    for (std::size_t j = 0; j < picks; ++j) {
      const LocalPick found = {b.pick_expert[t * picks + j], contract::bits_of(b.pick_weight[t * picks + j])};
      right = right && (j < expected[t].size() ? found == expected[t][j] : found.expert == -1);
    }
    wrong += right ? 0 : 1;
  }
  return wrong;
}

TEST(RouteGrouped, near_ties_of_groups_and_experts_give_the_references_bits) {
  int seed = 1;
  for (const NearTies& ties : kNearTies) {
    for (const NearTieBias kind : kNearTieBiases) {
      for (const Kernel kernel : {Kernel::route_grouped, Kernel::route_grouped_alone, Kernel::route_and_pack}) {
        for (const std::int64_t tokens : {5, 35}) {
          Rows rows;
          rows.bias = near_tie_bias(kind, ++seed);
          rows.logits = near_tie_logits(ties, rows.bias, tokens, seed);
          rows.logits_type = seed % 5 == 0 ? FloatType::bf16 : FloatType::f32;
          EXPECT_EQ(0, wrong_tokens(rows, kernel))
              << tokens << " tokens, bias " << static_cast<int>(kind) << ", seed " << seed;
        }
      }
    }
  }
}

TEST(RouteGrouped, pruning_leaves_the_references_picks) {
  int seed = 50;
  for (const contract::Pruning pruning : {contract::Pruning{3, 0}, {1, 0}, {0, 0.125F}, {2, 0.13F}}) {
    for (const NearTies& ties : kNearTies) {
      for (const Kernel kernel : {Kernel::route_grouped, Kernel::route_and_pack}) {
        Rows rows;
        rows.bias = near_tie_bias(kNearTieBiases[0], ++seed);
        rows.logits = near_tie_logits(ties, rows.bias, 35, seed);
        rows.pruning = pruning;
        EXPECT_EQ(0, wrong_tokens(rows, kernel))
            << pruning.max_local_picks << ", " << pruning.min_weight_share << ", seed " << seed;
      }
    }
  }
}

}  // namespace
}  // namespace blockmoe::test
