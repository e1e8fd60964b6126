// oracle_routing_test.cpp: the oracle's routing where the choice is easy, tied, special or within fp32's error.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "contract/routing.h"
#include "random_call.hpp"
#include "verify/routing_oracle.hpp"

namespace blockmoe::verify {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

using Experts = std::vector<std::int32_t>;

Experts experts_of(const std::vector<Pick>& picks) {
  Experts experts;
  for (const Pick& pick : picks) experts.push_back(pick.expert);
  return experts;
}

struct Routed {
  contract::Geometry geometry;
  std::vector<float> logits;
  std::vector<float> bias;

  TokenRouting route() const {
    contract::Weights weights;
    weights.routing_bias = bias.empty() ? nullptr : bias.data();
    weights.routing_bias_type = contract::FloatType::f32;
    contract::Activations activations;
    activations.tokens = 1;
    activations.routing_logits = logits.data();
    activations.routing_logits_pitch = geometry.experts;
    return route_token(geometry, weights, activations, 0);
  }

  /// The picks, where there is no doubt of them.
  Experts picks() const {
    const TokenRouting routing = route();
    EXPECT_EQ(routing.alternatives.size(), 1U);
    return routing.alternatives.size() == 1 ? experts_of(routing.alternatives[0]) : Experts{};
  }
};

contract::Geometry geometry(std::int32_t experts, std::int32_t top_k, std::int32_t n_group, std::int32_t topk_group) {
  return {128, 128, experts, 1, top_k, n_group, topk_group};
}

struct Choice {
  const char* name;
  Routed routed;
  Experts picks;
};

std::vector<Choice> choices() {
  return {
      {"the_largest", {geometry(4, 2, 1, 1), {0.1F, 0.4F, 0.2F, 0.3F}, {}}, {1, 3}},
      {"the_bias_counts", {geometry(4, 2, 1, 1), {0.1F, 0.4F, 0.2F, 0.3F}, {1.0F, 0.0F, 0.0F, -1.0F}}, {0, 1}},
      {"ties_go_to_the_lower_expert", {geometry(6, 3, 1, 1), {0.5F, 0.5F, 0.5F, 0.5F, 0.5F, 0.5F}, {}}, {0, 1, 2}},
      {"both_zeros_tie", {geometry(4, 2, 1, 1), {0.0F, -0.0F, 0.0F, -0.0F}, {-0.0F, 0.0F, 0.0F, 0.0F}}, {0, 1}},
      {"ties_go_to_the_lower_group", {geometry(6, 2, 3, 1), {0.1F, 0.2F, 0.2F, 0.1F, 0.2F, 0.1F}, {}}, {0, 1}},
      {"a_group_counts_by_its_two_best", {geometry(6, 2, 2, 1), {2.0F, -9.0F, -9.0F, 1.0F, 1.0F, -9.0F}, {}}, {3, 4}},
      {"a_group_of_one_counts_alone", {geometry(3, 1, 3, 1), {0.1F, 0.3F, 0.2F}, {}}, {1}},
      {"dropped_groups_are_out_however_low_the_kept",
       {geometry(4, 2, 2, 1), {9.0F, 0.0F, 0.1F, 0.1F}, {0.0F, -FLT_MAX, -1e5F, -1e5F}},
       {2, 3}},
      {"saturated_scores_tie", {geometry(4, 2, 1, 1), {30.0F, 40.0F, 100.0F, kInf}, {}}, {0, 1}},
      {"vanished_scores_tie", {geometry(4, 2, 1, 1), {-120.0F, -kInf, -110.0F, -200.0F}, {}}, {0, 1}},
      {"a_huge_bias_leaves_nothing_of_the_score",
       {geometry(4, 2, 1, 1), {0.1F, 0.4F, 0.2F, 0.3F}, {1e10F, 1e10F, 1e10F, 1e10F}},
       {0, 1}},
      {"nan_comes_last", {geometry(4, 2, 1, 1), {kNaN, -90.0F, kNaN, -80.0F}, {}}, {1, 3}},
      {"nan_is_picked_when_nothing_else_is_left", {geometry(3, 2, 1, 1), {kNaN, kNaN, 0.0F}, {}}, {0, 2}},
      {"nan_ties_with_a_bias_of_minus_infinity", {geometry(3, 1, 1, 1), {kNaN, 0.0F, kNaN}, {0.0F, -kInf, 0.0F}}, {0}},
      {"all_nan", {geometry(8, 3, 4, 2), std::vector<float>(8, kNaN), {}}, {0, 1, 2}},
      {"infinite_biases_are_clamped", {geometry(3, 1, 1, 1), {0.0F, 0.0F, 0.0F}, {FLT_MAX, kInf, 0.0F}}, {0}},
  };
}

TEST(OracleRouting, decides_every_exact_choice) {
  for (const Choice& choice : choices()) EXPECT_EQ(choice.routed.picks(), choice.picks) << choice.name;
}

TEST(OracleRouting, a_nan_score_weighs_nothing) {
  const TokenRouting routing = Routed{geometry(2, 2, 1, 1), {kNaN, 0.3F}, {}}.route();
  EXPECT_TRUE(routing.non_finite);
  ASSERT_EQ(routing.alternatives.size(), 1U);
  EXPECT_EQ(routing.alternatives[0][0].weight, 0.0);
  EXPECT_DOUBLE_EQ(routing.alternatives[0][1].weight, 1.0);
}

TEST(OracleRouting, knows_when_the_tie_rule_decided) {
  EXPECT_TRUE((Routed{geometry(4, 2, 1, 1), {0.5F, 0.3F, 0.3F, 0.1F}, {}}.route().tie));
  EXPECT_TRUE((Routed{geometry(4, 1, 2, 1), {0.5F, 0.3F, 0.3F, 0.5F}, {}}.route().tie));   // of groups
  EXPECT_TRUE((Routed{geometry(3, 1, 1, 1), {20.0F, 30.0F, 0.0F}, {}}.route().tie));       // both scores are 1
  EXPECT_FALSE((Routed{geometry(4, 2, 1, 1), {0.5F, 0.5F, 0.3F, 0.3F}, {}}.route().tie));  // both in, both out
  EXPECT_FALSE((Routed{geometry(4, 2, 1, 1), {0.5F, 0.3F, 0.2F, 0.1F}, {}}.route().tie));
}

TEST(OracleRouting, scores_within_the_error_of_fp32_are_alternatives) {
  const float next = std::nextafter(0.3F, 1.0F);
  const TokenRouting routing = Routed{geometry(4, 2, 1, 1), {0.3F, next, 1.0F, -1.0F}, {}}.route();
  ASSERT_EQ(routing.alternatives.size(), 2U);
  EXPECT_EQ(experts_of(routing.alternatives[0]), (Experts{0, 2}));
  EXPECT_EQ(experts_of(routing.alternatives[1]), (Experts{1, 2}));
}

TEST(OracleRouting, groups_within_the_error_of_fp32_are_alternatives) {
  const float next = std::nextafter(0.3F, 1.0F);
  const TokenRouting routing = Routed{geometry(4, 1, 2, 1), {0.3F, 0.2F, next, 0.2F}, {}}.route();
  ASSERT_EQ(routing.alternatives.size(), 2U);
  EXPECT_EQ(experts_of(routing.alternatives[0]), Experts{0});
  EXPECT_EQ(experts_of(routing.alternatives[1]), Experts{2});
}

TEST(OracleRouting, too_many_alternatives_are_none) {
  Routed routed{geometry(32, 16, 1, 1), {}, {}};
  for (std::uint32_t e = 0; e < 32; ++e) {
    routed.logits.push_back(std::bit_cast<float>(std::bit_cast<std::uint32_t>(0.3F) + e % 4));
  }
  EXPECT_TRUE(routed.route().alternatives.empty());
}

/// The rules in fp32 with the contract's arithmetic and plain sorting.
Experts brute_force(const contract::Geometry& g, const float* logits, const std::vector<float>& bias) {
  std::vector<float> b;
  b.reserve(static_cast<std::size_t>(g.experts));
  for (std::int32_t e = 0; e < g.experts; ++e) {
    b.push_back(contract::choice_score(contract::sigmoid(logits[e]), bias[static_cast<std::size_t>(e)]));
  }
  std::vector<std::pair<float, std::int32_t>> groups;  // (-score, group): ascending order is the order of the rules
  for (std::int32_t group = 0; group < g.n_group; ++group) {
    const auto begin = b.begin() + group * g.experts_per_group();
    std::vector<float> members(begin, begin + g.experts_per_group());
    std::sort(members.begin(), members.end(), std::greater<>());
    groups.emplace_back(members.size() == 1 ? -members[0] : -(members[0] + members[1]), group);
  }
  std::sort(groups.begin(), groups.end());
  std::vector<std::pair<float, std::int32_t>> candidates;
  for (std::int32_t i = 0; i < g.topk_group; ++i) {
    const std::int32_t first = groups[static_cast<std::size_t>(i)].second * g.experts_per_group();
    for (std::int32_t e = first; e < first + g.experts_per_group(); ++e) {
      candidates.emplace_back(-b[static_cast<std::size_t>(e)], e);
    }
  }
  std::sort(candidates.begin(), candidates.end());
  Experts picks;
  for (std::int32_t i = 0; i < g.top_k; ++i) picks.push_back(candidates[static_cast<std::size_t>(i)].second);
  std::sort(picks.begin(), picks.end());
  return picks;
}

class OracleRoutingAgainstBruteForce : public testing::TestWithParam<test::Logits> {};

TEST_P(OracleRoutingAgainstBruteForce, picks_of_fp32_are_always_among_the_alternatives) {
  using test::Bias;
  std::int64_t tokens = 0;
  std::int64_t undecided = 0;
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    for (const Bias bias : {Bias::absent, Bias::normal, Bias::few_values, Bias::huge, Bias::special}) {
      test::CallRecipe recipe = test::random_recipe(seed);
      recipe.geometry.hidden = 128;
      recipe.geometry.intermediate = 128;
      recipe.geometry.local_experts = 1;
      recipe.logits = GetParam();
      recipe.bias = bias;
      const test::RandomCall call(recipe);
      const auto routing = route_tokens(call.geometry(), call.weights(), call.activations(), 1);
      for (std::int64_t t = 0; t < recipe.tokens; ++t, ++tokens) {
        const auto& alternatives = routing[static_cast<std::size_t>(t)].alternatives;
        undecided += alternatives.empty() ? 1 : 0;
        if (alternatives.empty()) continue;
        const Experts picks =
            brute_force(call.geometry(), call.logits().data() + t * recipe.geometry.experts, call.bias());
        EXPECT_TRUE(std::any_of(alternatives.begin(), alternatives.end(),
                                [&](const std::vector<Pick>& alternative) { return experts_of(alternative) == picks; }))
            << recipe << ", token " << t;
      }
    }
  }
  // Only scores made to lie within the error of fp32 leave many tokens undecided.
  EXPECT_LE(undecided, GetParam() == test::Logits::near_ties ? tokens / 2 : tokens / 100);
}

std::string name_of(const testing::TestParamInfo<test::Logits>& parameter) {
  constexpr std::array<const char*, 10> kNames = {"normal",      "equal",   "few_values", "near_ties",  "wide",
                                                  "tiny_scores", "all_nan", "special",    "one_expert", "none_local"};
  return kNames.at(static_cast<std::size_t>(parameter.param));
}

INSTANTIATE_TEST_SUITE_P(AllLogits, OracleRoutingAgainstBruteForce,
                         testing::Values(test::Logits::normal, test::Logits::equal, test::Logits::few_values,
                                         test::Logits::near_ties, test::Logits::wide, test::Logits::tiny_scores,
                                         test::Logits::all_nan, test::Logits::special, test::Logits::one_expert,
                                         test::Logits::none_local),
                         name_of);

}  // namespace
}  // namespace blockmoe::verify
