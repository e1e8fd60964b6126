// cpu_route_test.cpp: routing and packing against brute force, hostile logits and biases included.
#include <gtest/gtest.h>

#include <bit>
#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "cpu/pack.hpp"
#include "cpu/route.hpp"
#include "cpu_call.hpp"
#include "cpu_reference.hpp"

namespace blockmoe::test {
namespace {

using cpu::Chunk;
using cpu::LocalPick;
using cpu::RowBlock;
using cpu::Sizes;
using cpu::TokenBlock;

constexpr auto kSet = cpu::InstructionSet::plain;

contract::Geometry geometry(std::int32_t experts, std::int32_t groups, std::int32_t kept, std::int32_t top_k,
                            std::int32_t local) {
  contract::Geometry g;
  g.hidden = 128;
  g.intermediate = 128;
  g.experts = experts;
  g.n_group = groups;
  g.topk_group = kept;
  g.top_k = top_k;
  g.local_experts = local;
  return g;
}

// Experts, groups, groups kept, picks, local experts.
const contract::Geometry kGeometries[] = {
    geometry(256, 8, 4, 8, 32), geometry(256, 8, 4, 8, 64),   geometry(1, 1, 1, 1, 1),
    geometry(8, 1, 1, 8, 8),    geometry(16, 16, 5, 5, 16),   geometry(24, 8, 2, 3, 10),
    geometry(64, 2, 1, 32, 20), geometry(33, 11, 11, 32, 33), geometry(160, 8, 3, 6, 40),
    geometry(40, 4, 2, 1, 40),  geometry(1024, 32, 4, 32, 8), geometry(128, 64, 16, 32, 40)};

void expect_picks(const CallRecipe& recipe) {
  const RandomCall call(recipe);
  const CpuCall cpu_call(call, kSet, 2);
  cpu::route(cpu_call.call(), {0, recipe.tokens});
  for (std::int64_t t = 0; t < recipe.tokens; ++t) {
    std::vector<std::pair<std::int64_t, std::uint32_t>> expected;
    for (const ReferencePick& pick : reference_picks(call, t)) {
      const std::int64_t local = std::int64_t{pick.expert} - recipe.local_expert_offset;
      if (local < 0 || local >= recipe.geometry.local_experts) continue;
      expected.emplace_back(local, std::bit_cast<std::uint32_t>(pick.weight));
    }
    std::vector<std::pair<std::int64_t, std::uint32_t>> found;
    const LocalPick* picks = cpu_call.call().picks_of(t);
    const std::int32_t count = cpu_call.call().buffers.pick_count[t];
    found.reserve(static_cast<std::size_t>(count));
    for (std::int32_t i = 0; i < count; ++i) {
      found.emplace_back(picks[i].expert, std::bit_cast<std::uint32_t>(picks[i].weight));
    }
    EXPECT_EQ(found, expected) << "token " << t << " of " << recipe;
  }
}

// The same of all ranks' experts.
void expect_all_picks(const CallRecipe& recipe) {
  const RandomCall call(recipe);
  cpu::ThreadPool pool(2);
  const auto picks = static_cast<std::size_t>(recipe.geometry.top_k);
  std::vector<std::int32_t> experts(static_cast<std::size_t>(recipe.tokens) * picks, -2);
  std::vector<float> weights(experts.size(), -1.0F);
  cpu::route_alone(recipe.geometry, call.weights(), call.activations(), {experts.data(), weights.data()}, pool);
  for (std::int64_t t = 0; t < recipe.tokens; ++t) {
    std::size_t at = static_cast<std::size_t>(t) * picks;
    for (const ReferencePick& pick : reference_picks(call, t)) {
      EXPECT_EQ(experts[at], pick.expert) << "token " << t << " of " << recipe;
      EXPECT_EQ(std::bit_cast<std::uint32_t>(weights[at]), std::bit_cast<std::uint32_t>(pick.weight)) << recipe;
      ++at;
    }
  }
}

struct Hostile {
  const char* name;
  Logits logits;
  Bias bias;
};

class CpuRoute : public testing::TestWithParam<Hostile> {};

TEST_P(CpuRoute, picks_and_weights_are_those_of_brute_force_bit_for_bit) {
  std::uint64_t seed = 0;
  for (const contract::Geometry& g : kGeometries) {
    CallRecipe recipe;
    recipe.seed = ++seed;
    recipe.geometry = g;
    recipe.tokens = 50;
    recipe.local_expert_offset = (g.experts - g.local_experts) / 2;
    recipe.pitched = seed % 2 == 0;
    recipe.logits_type = seed % 3 == 0 ? contract::FloatType::bf16 : contract::FloatType::f32;
    recipe.bias_type = seed % 4 < 2 ? contract::FloatType::bf16 : contract::FloatType::f32;
    recipe.logits = GetParam().logits;
    recipe.bias = GetParam().bias;
    expect_picks(recipe);
    expect_all_picks(recipe);
  }
}

INSTANTIATE_TEST_SUITE_P(Inputs, CpuRoute,
                         testing::Values(Hostile{"normal", Logits::normal, Bias::normal},
                                         Hostile{"no_bias", Logits::normal, Bias::absent},
                                         Hostile{"all_equal", Logits::equal, Bias::absent},
                                         Hostile{"ties_everywhere", Logits::few_values, Bias::few_values},
                                         Hostile{"near_ties", Logits::near_ties, Bias::absent},
                                         Hostile{"saturated", Logits::wide, Bias::few_values},
                                         Hostile{"tiny_scores", Logits::tiny_scores, Bias::absent},
                                         Hostile{"all_nan", Logits::all_nan, Bias::normal},
                                         Hostile{"all_nan_no_bias", Logits::all_nan, Bias::absent},
                                         Hostile{"special_logits", Logits::special, Bias::normal},
                                         Hostile{"special_biases", Logits::normal, Bias::special},
                                         Hostile{"special_both", Logits::special, Bias::special},
                                         Hostile{"huge_biases", Logits::normal, Bias::huge}),
                         [](const auto& parameter) { return std::string(parameter.param.name); });

TEST(CpuRouteLocal, experts_outside_the_model_get_no_rows) {
  for (const std::int32_t offset : {-32, -31, -5, 0, 250, 255, 256, 2000000000, -2000000000}) {
    CallRecipe recipe;
    recipe.geometry = geometry(256, 8, 4, 8, 32);
    recipe.tokens = 20;
    recipe.local_expert_offset = offset;
    expect_picks(recipe);
    expect_all_picks(recipe);
  }
}

// Every pick of the chunk has a row of its own; rows stand by (expert, token); row blocks cover them.
void expect_packed(const CpuCall& cpu_call, const TokenBlock& block, const Chunk& chunk) {
  const cpu::Call& call = cpu_call.call();
  std::vector<std::int32_t> expert_of_row;
  for (std::int64_t i = 0; i < chunk.row_blocks; ++i) {
    const RowBlock& rows = call.buffers.row_blocks[i];
    EXPECT_EQ(rows.first, static_cast<std::int32_t>(expert_of_row.size()));
    EXPECT_GE(rows.count, 1);
    EXPECT_LE(rows.count, cpu::kRowBlock);
    expert_of_row.insert(expert_of_row.end(), static_cast<std::size_t>(rows.count), rows.expert);
  }
  EXPECT_LE(chunk.row_blocks, call.sizes.max_blocks);
  EXPECT_LE(static_cast<std::int64_t>(expert_of_row.size()), call.sizes.max_rows);
  std::set<std::int32_t> seen;
  for (std::int64_t t = chunk.begin; t < chunk.end; ++t) {
    for (std::int32_t i = 0; i < call.buffers.pick_count[t]; ++i) {
      const LocalPick& pick = call.picks_of(t)[i];
      ASSERT_TRUE(seen.insert(pick.row).second) << "row " << pick.row;
      EXPECT_EQ(expert_of_row.at(static_cast<std::size_t>(pick.row)), pick.expert);
      EXPECT_EQ(call.buffers.row_to_token[pick.row], block.first + t);
    }
  }
  EXPECT_EQ(seen.size(), expert_of_row.size());
  for (std::size_t row = 1; row < expert_of_row.size(); ++row) {
    const auto key = [&](std::size_t r) { return std::pair(expert_of_row[r], call.buffers.row_to_token[r]); };
    EXPECT_LT(key(row - 1), key(row));
  }
}

TEST(CpuPack, orders_rows_by_expert_and_token_and_fills_every_chunk) {
  for (const std::int64_t max_rows : {32, 40, 300, 5000}) {
    for (const Logits logits : {Logits::normal, Logits::one_expert, Logits::none_local}) {
      CallRecipe recipe;
      recipe.geometry = geometry(64, 8, 4, 8, 30);
      recipe.tokens = 700;
      recipe.local_expert_offset = 20;
      recipe.logits = logits;
      const RandomCall call(recipe);
      Sizes sizes = cpu::choose_sizes(recipe.geometry, recipe.tokens, 1);
      sizes.max_rows = max_rows;
      const CpuCall cpu_call(call, kSet, sizes, 0, recipe.tokens);
      const TokenBlock block{100, 500};
      cpu::route(cpu_call.call(), block);
      std::int64_t begin = 0;
      while (begin < block.count) {
        const Chunk chunk = cpu::pack(cpu_call.call(), block, begin);
        ASSERT_EQ(chunk.begin, begin);
        ASSERT_GT(chunk.end, begin);
        expect_packed(cpu_call, block, chunk);
        begin = chunk.end;
      }
      EXPECT_EQ(begin, block.count);
    }
  }
}

}  // namespace
}  // namespace blockmoe::test
