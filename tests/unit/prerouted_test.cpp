// prerouted_test.cpp: calls whose routing is the caller's, on the CPU: the picks that the routed call makes give its bits, and
// what is not on this rank is skipped.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <limits>
#include <random>
#include <set>
#include <vector>

#include "contract/e4m3.h"
#include "cpu/run.hpp"
#include "cpu_call.hpp"
#include "cpu_reference.hpp"
#include "library_call.hpp"
#include "random_call.hpp"
#include "routing_reference.hpp"

namespace blockmoe::test {
namespace {

struct Routing {
  std::vector<std::int32_t> ids;  // [T, top_k]
  std::vector<float> weights;
};

// The routed call's picks over all ranks, by brute force; CpuRoute holds the library to them bit for bit.
Routing routing_of(const RandomCall& call) {
  Routing routing;
  for (std::int64_t t = 0; t < call.recipe().tokens; ++t) {
    for (const ReferencePick& pick : reference_picks(call, t)) {
      routing.ids.push_back(pick.expert);
      routing.weights.push_back(pick.weight);
    }
  }
  return routing;
}

std::vector<std::uint16_t> run(const RandomCall& call, const Routing& routing) {
  const LibraryOutput output = run_prerouted(call, routing.ids, routing.weights);
  EXPECT_TRUE(output.surroundings_are_untouched()) << call.recipe();
  return output.packed();
}

std::vector<std::uint16_t> rounded(const std::vector<float>& values) {
  std::vector<std::uint16_t> all;
  all.reserve(values.size());
  for (const float x : values) all.push_back(contract::bf16_encode(x));
  return all;
}

// Half of 16 experts are on this rank; every token picks 4.
CallRecipe small_recipe() {
  CallRecipe recipe;
  recipe.seed = 3;
  recipe.tokens = 7;
  recipe.geometry.hidden = 256;
  recipe.geometry.intermediate = 128;
  recipe.geometry.experts = 16;
  recipe.geometry.local_experts = 8;
  recipe.geometry.top_k = 4;
  recipe.geometry.n_group = 4;
  recipe.geometry.topk_group = 4;
  return recipe;
}

TEST(Prerouted, picks_of_the_routed_call_give_its_bits) {
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    const RandomCall call(random_recipe(seed));
    EXPECT_EQ(run(call, routing_of(call)), run_library(call).packed()) << call.recipe();
  }
}

constexpr contract::Pruning kPrunings[] = {{1, 0}, {2, 0}, {0, 0.1F}, {0, 0.25F}, {3, 0.125F}};

TEST(Prerouted, picks_of_a_pruned_routed_call_give_its_bits) {
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    CallRecipe recipe = random_recipe(seed);
    recipe.pruning = kPrunings[seed % std::size(kPrunings)];
    recipe.pruning.max_local_picks = std::min(recipe.pruning.max_local_picks, recipe.geometry.top_k);
    if (seed % 3 == 0) recipe.logits = Logits::few_values;
    if (seed % 4 == 0) recipe.routed_scaling_factor = -1.5F;
    const RandomCall call(recipe);
    EXPECT_EQ(run(call, routing_of(call)), run_library(call).packed()) << recipe;
  }
}

// Weights of any sign and size, NaN among them, ids of other ranks and of none.
TEST(Prerouted, pruning_leaves_what_a_call_without_the_dropped_picks_has) {
  CallRecipe recipe = small_recipe();
  recipe.tokens = 60;
  recipe.local_expert_offset = 4;
  std::mt19937 random(9);
  Routing routing;
  for (std::int64_t i = 0; i < recipe.tokens * 4; ++i) {
    routing.ids.push_back(static_cast<std::int32_t>(random() % 19) - 1);
    routing.weights.push_back(i % 37 == 0 ? std::numeric_limits<float>::quiet_NaN()
                                          : static_cast<float>(random() % 9) / 4 - 1);
  }
  const RandomCall exact(recipe);
  const std::vector<std::uint16_t> whole = run(exact, routing);
  for (const contract::Pruning& pruning : kPrunings) {
    Routing left = routing;
    for (std::size_t first = 0; first < left.ids.size(); first += 4) {
      contract::TokenPicks picks = {routing.weights.data() + first, 4, 0, 0};
      std::set<std::int32_t> seen;
      for (std::uint32_t j = 0; j < 4; ++j) {
        const std::int32_t id = routing.ids[first + j];
        if (id >= 0 && id < 16) picks.picked |= 1U << j;
        if (id >= 4 && id < 12 && seen.insert(id).second) picks.local |= 1U << j;
      }
      const std::uint32_t kept = kept_by_sorting(pruning, picks);
      for (std::uint32_t j = 0; j < 4; ++j) {
        if ((kept >> j & 1U) == 0) left.ids[first + j] = -1;
      }
    }
    recipe.pruning = pruning;
    const std::vector<std::uint16_t> pruned = run(RandomCall(recipe), routing);
    EXPECT_EQ(pruned, run(exact, left)) << recipe;
    EXPECT_NE(pruned, whole) << recipe;
  }
}

TEST(Prerouted, however_a_call_is_cut_it_gives_the_same_bits) {
  CallRecipe recipe = small_recipe();
  recipe.tokens = 21;
  const RandomCall call(recipe);
  const Routing routing = routing_of(call);
  const std::vector<std::uint16_t> whole = run(call, routing);
  const contract::Picks picks = {
      .experts = routing.ids.data(), .experts_pitch = 4, .weights = routing.weights.data(), .weights_pitch = 4};
  for (const std::int64_t block_tokens : {1, 4, 20}) {
    cpu::Sizes sizes = cpu::choose_sizes(recipe.geometry, recipe.tokens, 2);
    sizes.block_tokens = block_tokens;
    const CpuCall cut(call, cpu::best_instruction_set(), sizes, 0, recipe.tokens);
    cpu::Call on_picks = cut.call();
    on_picks.given_picks = &picks;
    cpu::run(on_picks);
    EXPECT_EQ(cut.output(), whole) << block_tokens;
  }
}

TEST(Prerouted, picks_of_a_call_that_only_routes_are_the_routed_calls) {
  for (const std::int32_t local_experts : {8, 16}) {
    CallRecipe recipe = small_recipe();
    recipe.geometry.local_experts = local_experts;
    recipe.logits = Logits::special;
    const RandomCall call(recipe);
    const LibraryPicks picks = route(call);
    EXPECT_EQ(run(call, {picks.ids, picks.weights}), run_library(call).packed());
    EXPECT_EQ(picks.ids, routing_of(call).ids);
  }
}

TEST(Prerouted, an_f32_output_rounds_to_the_bf16_outputs_bits) {
  for (const bool pitched : {false, true}) {
    CallRecipe recipe = small_recipe();
    recipe.pitched = pitched;
    recipe.tokens = 40;
    recipe.logits = Logits::special;
    const RandomCall call(recipe);
    const LibraryPicks picks = route(call);
    const std::vector<std::uint16_t> expected = run_library(call).packed();
    EXPECT_EQ(rounded(run_f32(call)), expected);
    EXPECT_EQ(rounded(run_f32(call, &picks)), expected);
  }
}

TEST(Prerouted, routed_scaling_factor_is_not_looked_at) {
  CallRecipe recipe = small_recipe();
  const RandomCall call(recipe);
  const Routing routing = routing_of(call);
  recipe.routed_scaling_factor = 7.0F;
  EXPECT_EQ(run(RandomCall(recipe), routing), run(call, routing));
}

TEST(Prerouted, no_pick_gives_zeros) {
  const RandomCall call(small_recipe());
  Routing routing = routing_of(call);
  routing.ids.assign(routing.ids.size(), -1);
  EXPECT_EQ(run(call, routing), std::vector<std::uint16_t>(std::size_t{7} * 256, 0));
}

struct Skipped {
  const char* name;
  std::int32_t offset;  // of the 8 local experts
  std::int32_t id;
};

class PreroutedSkips : public testing::TestWithParam<Skipped> {};

// In place of any pick, the id counts as -1 does.
TEST_P(PreroutedSkips, an_expert_that_is_not_here) {
  CallRecipe recipe = small_recipe();
  recipe.local_expert_offset = GetParam().offset;
  const RandomCall call(recipe);
  Routing routing = routing_of(call);
  Routing without = routing;
  for (std::size_t i = 1; i < routing.ids.size(); i += 3) {
    routing.ids[i] = GetParam().id;
    without.ids[i] = -1;
  }
  EXPECT_EQ(run(call, routing), run(call, without));
}

INSTANTIATE_TEST_SUITE_P(table, PreroutedSkips,
                         testing::Values(Skipped{"of_a_rank_before", 8, 7}, Skipped{"of_a_rank_after", 0, 8},
                                         Skipped{"negative_and_in_reach_of_a_negative_offset", -4, -2},
                                         Skipped{"least", 0, INT32_MIN}, Skipped{"largest", 0, INT32_MAX},
                                         Skipped{"past_all_experts_and_in_reach_of_the_offset", 12, 17}),
                         [](const auto& tested) { return tested.param.name; });

TEST(Prerouted, a_repeated_expert_counts_once) {
  CallRecipe recipe = small_recipe();
  recipe.geometry.local_experts = 2;  // fewer than picks: repeats would not fit the workspace
  const RandomCall call(recipe);
  Routing routing = routing_of(call);
  Routing once = routing;
  for (std::size_t i = 0; i < routing.ids.size(); ++i) {
    routing.ids[i] = i % 4 == 3 ? 1 : 0;
    once.ids[i] = i % 4 == 0 ? 0 : (i % 4 == 3 ? 1 : -1);
  }
  EXPECT_EQ(run(call, routing), run(call, once));
}

TEST(Prerouted, a_weight_that_is_nan_reaches_its_token_alone) {
  CallRecipe recipe = small_recipe();
  recipe.geometry.local_experts = 16;
  const RandomCall call(recipe);
  Routing routing = routing_of(call);
  const std::vector<std::uint16_t> clean = run(call, routing);
  routing.weights[2 * 4] = std::numeric_limits<float>::quiet_NaN();
  const std::vector<std::uint16_t> output = run(call, routing);
  for (std::size_t i = 0; i < output.size(); ++i) {
    if (i / 256 == 2) {
      EXPECT_GT(output[i] & 0x7fffU, 0x7f80U) << i;
    } else {
      EXPECT_EQ(output[i], clean[i]) << i;
    }
  }
}

}  // namespace
}  // namespace blockmoe::test
