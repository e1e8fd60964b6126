// oracle_pruning_test.cpp: what the oracle holds possible of a pruned call.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "random_call.hpp"
#include "routing_reference.hpp"
#include "verify/oracle.hpp"
#include "verify/pruning_oracle.hpp"
#include "verify/routing_oracle.hpp"

namespace blockmoe::verify {
namespace {

/// Picks of experts 0.. with these s, without a bias; those of `local` are on this rank.
std::vector<PickScores> picks_with(const std::vector<float>& s, const Numbers& local) {
  std::vector<PickScores> picks;
  for (std::int32_t e = 0; e < std::ssize(s); ++e) {
    const float score = s[static_cast<std::size_t>(e)];
    const bool is_local = std::find(local.begin(), local.end(), e) != local.end();
    picks.push_back({e, is_local, score, 0.0F, score, score, score, score});
  }
  return picks;
}

TEST(OraclePruning, leaves_the_largest_and_the_first_of_equal_ones) {
  EXPECT_EQ(prune(picks_with({0.1F, 0.4F, 0.3F, 0.2F}, {0, 2, 3}), 2.5F, {2, 0}), std::vector<Numbers>({{2, 3}}));
  EXPECT_EQ(prune(picks_with({0.5F, 0.5F, 0.5F}, {0, 1, 2}), 2.5F, {2, 0}), std::vector<Numbers>({{0, 1}}));
}

TEST(OraclePruning, takes_shares_of_all_picks) {
  EXPECT_EQ(prune(picks_with({0.5F, 0.25F, 0.25F}, {1, 2}), -2.5F, {0, 0.3F}), std::vector<Numbers>({{}}));
  EXPECT_EQ(prune(picks_with({0.5F, 0.25F, 0.25F}, {0, 1, 2}), 2.5F, {0, 0.2F}), std::vector<Numbers>({{0, 1, 2}}));
}

TEST(OraclePruning, holds_both_outcomes_of_a_share_at_the_border_possible) {
  const std::vector<Numbers> sets = prune(picks_with({0.5F, 0.25F, 0.25F}, {0, 1}), 1.0F, {0, 0.25F});
  EXPECT_EQ(sets, std::vector<Numbers>({{0}, {0, 1}}));
}

TEST(OraclePruning, holds_both_orders_of_weights_within_the_error_possible) {
  std::vector<PickScores> picks = picks_with({0.3F, 0.3000001F}, {0, 1});
  for (PickScores& pick : picks) {
    pick.s_low = pick.b_low = 0.2999F;
    pick.s_high = pick.b_high = 0.3001F;
  }
  EXPECT_EQ(prune(picks, 1.0F, {1, 0}), std::vector<Numbers>({{0}, {1}}));
}

class OraclePruningAgainstSorting : public testing::TestWithParam<test::Logits> {};

TEST_P(OraclePruningAgainstSorting, picks_of_fp32_are_always_among_the_alternatives) {
  using test::Bias;
  constexpr contract::Pruning kRules[] = {{1, 0}, {3, 0}, {0, 0.125F}, {0, 0.3F}, {2, 0.1F}};
  std::int64_t tokens = 0;
  std::int64_t undecided = 0;
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    for (const Bias bias : {Bias::absent, Bias::normal, Bias::few_values, Bias::special}) {
      test::CallRecipe recipe = test::random_recipe(seed);
      recipe.geometry.hidden = 128;
      recipe.geometry.intermediate = 128;
      recipe.logits = GetParam();
      recipe.bias = bias;
      if (seed % 5 == 0) recipe.routed_scaling_factor = seed % 2 == 0 ? 0.0F : -2.0F;
      const test::RandomCall call(recipe);
      const contract::Pruning& rule = kRules[seed % 5];
      const auto routing = route_tokens(call.geometry(), call.weights(), call.activations(), 1, rule);
      for (std::int64_t t = 0; t < recipe.tokens; ++t, ++tokens) {
        const auto& alternatives = routing[static_cast<std::size_t>(t)].alternatives;
        undecided += alternatives.empty() ? 1 : 0;
        Numbers expected;
        for (const test::LocalPick& pick :
             test::reference_picks(call.geometry(), call.weights(), call.activations(), t, rule)) {
          expected.push_back(pick.expert);
        }
        std::sort(expected.begin(), expected.end());
        const auto is_expected = [&](const std::vector<Pick>& picks) {
          Numbers local;
          for (const Pick& pick : picks) {
            const std::int64_t number = std::int64_t{pick.expert} - recipe.local_expert_offset;
            if (number >= 0 && number < recipe.geometry.local_experts) {
              local.push_back(static_cast<std::int32_t>(number));
            }
          }
          return local == expected;
        };
        EXPECT_TRUE(alternatives.empty() || std::any_of(alternatives.begin(), alternatives.end(), is_expected))
            << recipe << ", token " << t;
      }
    }
  }
  EXPECT_LE(undecided, GetParam() == test::Logits::near_ties ? tokens * 2 / 3 : tokens / 50);
}

std::string name_of(const testing::TestParamInfo<test::Logits>& parameter) {
  return "logits_" + std::to_string(static_cast<int>(parameter.param));
}

INSTANTIATE_TEST_SUITE_P(Logits, OraclePruningAgainstSorting,
                         testing::Values(test::Logits::normal, test::Logits::equal, test::Logits::few_values,
                                         test::Logits::near_ties, test::Logits::wide, test::Logits::tiny_scores,
                                         test::Logits::all_nan, test::Logits::special, test::Logits::one_expert),
                         name_of);

TEST(OraclePruning, facts_count_the_rows_that_are_left) {
  test::CallRecipe recipe = test::random_recipe(3);
  recipe.tokens = 40;
  const test::RandomCall call(recipe);
  const auto rows = [&](const contract::Pruning& rule) {
    return routing_facts(call.geometry(), call.weights(), call.activations(), 1, rule).rows;
  };
  std::int64_t one_a_token = 0;
  for (std::int64_t t = 0; t < recipe.tokens; ++t) {
    one_a_token += test::reference_picks(call.geometry(), call.weights(), call.activations(), t).empty() ? 0 : 1;
  }
  EXPECT_EQ(rows({1, 0}), one_a_token);
  EXPECT_GT(rows({}), one_a_token);
}

}  // namespace
}  // namespace blockmoe::verify
