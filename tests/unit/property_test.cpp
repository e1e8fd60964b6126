// property_test.cpp: whole calls on small random geometries, through the public API on the CPU, against the FP64 oracle.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "library_call.hpp"
#include "random_call.hpp"
#include "verify/compare.hpp"
#include "verify/oracle.hpp"
#include "verify/routing_oracle.hpp"

namespace blockmoe::test {
namespace {

/// The contract's gate on the CPU. A handful of rows scatters around what one requantisation costs on average.
constexpr verify::Gates kGates{verify::kCpuGates.requantised, 2 * verify::kCpuGates.plain};

/// Of an intermediate of two terms, whose error does not scatter: what is left is the output's rounding.
constexpr verify::Gates kTwoTermGates{2 * verify::kTwoTermGates.requantised, verify::kTwoTermGates.plain};

const verify::Gates& gates_of(const CallRecipe& recipe) {
  return recipe.intermediate_type == contract::IntermediateType::e4m3x2 ? kTwoTermGates : kGates;
}

verify::OracleResult oracle_of(const RandomCall& call) {
  verify::OracleOptions options;
  options.scope = verify::OracleScope::full;
  options.threads = 2;
  options.pruning = call.recipe().pruning;
  return run_oracle(call.geometry(), call.weights(), call.activations(), options);
}

verify::Comparison check(const RandomCall& call) {
  const LibraryOutput output = run_library(call, 2);
  EXPECT_TRUE(output.surroundings_are_untouched()) << call.recipe();
  const verify::Comparison result = compare(oracle_of(call), output.rows(), output.pitch, {}, gates_of(call.recipe()));
  EXPECT_TRUE(result.within_gates) << result.fault << ": " << call.recipe();
  EXPECT_EQ(result.checked_tokens, call.recipe().tokens);
  return result;
}

bool is_finite(std::uint16_t bf16) {
  return (bf16 & 0x7f80U) != 0x7f80U;
}

TEST(Property, random_calls_hold_the_gates) {
  std::int64_t compared = 0;
  for (std::uint64_t seed = 100; seed < 160; ++seed) {
    CallRecipe recipe = random_recipe(seed);
    recipe.scales = std::array{Scales::normal, Scales::small, Scales::mixed}[seed % 3];
    recipe.codes = seed % 2 == 0 ? Codes::normal : Codes::any_finite;
    const verify::Comparison result = check(RandomCall(recipe));
    EXPECT_EQ(result.not_promised, 0) << recipe;
    compared += result.checked_tokens;
  }
  EXPECT_GT(compared, 500);
}

TEST(Property, calls_with_an_intermediate_of_two_terms_hold_their_gates) {
  for (std::uint64_t seed = 700; seed < 740; ++seed) {
    CallRecipe recipe = random_recipe(seed);
    recipe.intermediate_type = contract::IntermediateType::e4m3x2;
    recipe.scales = std::array{Scales::normal, Scales::small, Scales::mixed}[seed % 3];
    recipe.codes = seed % 2 == 0 ? Codes::normal : Codes::any_finite;
    check(RandomCall(recipe));
  }
}

TEST(Property, pruned_calls_hold_the_gates_against_the_pruned_oracle) {
  constexpr std::array kRules = {contract::Pruning{1, 0}, contract::Pruning{2, 0}, contract::Pruning{0, 0.1F},
                                 contract::Pruning{0, 0.3F}, contract::Pruning{3, 0.125F}};
  constexpr std::array kLogits = {Logits::normal, Logits::few_values, Logits::wide, Logits::special};
  std::int64_t compared = 0;
  std::int64_t not_promised = 0;
  for (std::uint64_t seed = 600; seed < 660; ++seed) {
    CallRecipe recipe = random_recipe(seed);
    recipe.logits = kLogits[seed % kLogits.size()];
    recipe.pruning = kRules[seed % kRules.size()];
    recipe.pruning.max_local_picks = std::min(recipe.pruning.max_local_picks, recipe.geometry.top_k);
    const verify::Comparison result = check(RandomCall(recipe));
    compared += recipe.tokens * recipe.geometry.hidden;
    not_promised += result.not_promised;
  }
  EXPECT_LE(not_promised, compared / 50);
}

struct Hostile {
  const char* name;
  Logits logits;
  Bias bias;

  friend std::ostream& operator<<(std::ostream& stream, const Hostile& hostile) { return stream << hostile.name; }
};

class PropertyRouting : public testing::TestWithParam<Hostile> {};

TEST_P(PropertyRouting, holds_the_gates) {
  std::int64_t elements = 0;
  std::int64_t not_promised = 0;
  for (std::uint64_t seed = 200; seed < 212; ++seed) {
    CallRecipe recipe = random_recipe(seed);
    recipe.geometry.hidden = 128 + 128 * (recipe.geometry.hidden / 512);
    recipe.geometry.intermediate = 128;
    recipe.logits = GetParam().logits;
    recipe.bias = GetParam().bias;
    const verify::Comparison result = check(RandomCall(recipe));
    elements += recipe.tokens * recipe.geometry.hidden;
    not_promised += result.not_promised;
  }
  EXPECT_LE(not_promised, GetParam().logits == Logits::near_ties ? elements / 2 : elements / 50);
}

INSTANTIATE_TEST_SUITE_P(Hostile, PropertyRouting,
                         testing::Values(Hostile{"equal", Logits::equal, Bias::absent},
                                         Hostile{"equal_logits_few_biases", Logits::equal, Bias::few_values},
                                         Hostile{"ties_everywhere", Logits::few_values, Bias::few_values},
                                         Hostile{"near_ties", Logits::near_ties, Bias::absent},
                                         Hostile{"saturated", Logits::wide, Bias::few_values},
                                         Hostile{"tiny_scores", Logits::tiny_scores, Bias::absent},
                                         Hostile{"all_nan", Logits::all_nan, Bias::normal},
                                         Hostile{"special_logits", Logits::special, Bias::normal},
                                         Hostile{"special_biases", Logits::normal, Bias::special},
                                         Hostile{"special_both", Logits::special, Bias::special},
                                         Hostile{"huge_biases", Logits::normal, Bias::huge},
                                         Hostile{"all_on_one_expert", Logits::one_expert, Bias::absent},
                                         Hostile{"none_local", Logits::none_local, Bias::absent}),
                         [](const auto& parameter) { return std::string(parameter.param.name); });

class PropertyScales : public testing::TestWithParam<Scales> {};

TEST_P(PropertyScales, hold_the_gates) {
  for (std::uint64_t seed = 300; seed < 315; ++seed) {
    CallRecipe recipe = random_recipe(seed);
    recipe.scales = GetParam();
    check(RandomCall(recipe));
  }
}

INSTANTIATE_TEST_SUITE_P(Hostile, PropertyScales,
                         testing::Values(Scales::with_zeros, Scales::subnormal, Scales::huge, Scales::special));

/// Bit-equal but for the rows that `touched` says.
template <typename Touched>
void expect_contained(const CallRecipe& recipe, Codes poison, const Touched& touched) {
  CallRecipe clean = recipe;
  clean.codes = Codes::normal;
  CallRecipe poisoned = recipe;
  poisoned.codes = poison;
  const RandomCall poisoned_call(poisoned);
  const LibraryOutput with = run_library(poisoned_call, 2);
  const LibraryOutput without = run_library(RandomCall(clean), 2);
  check(poisoned_call);
  for (std::int64_t t = 0; t < recipe.tokens; ++t) {
    const std::vector<std::uint16_t> row(with.row(t), with.row(t) + with.width);
    if (touched(t)) {
      EXPECT_FALSE(std::all_of(row.begin(), row.end(), is_finite)) << recipe << ", token " << t;
    } else {
      EXPECT_EQ(row, std::vector<std::uint16_t>(without.row(t), without.row(t) + without.width))
          << recipe << ", token " << t;
    }
  }
}

TEST(PropertyNaN, in_a_tokens_row_reaches_that_token_alone) {
  for (std::uint64_t seed = 400; seed < 412; ++seed) {
    const CallRecipe recipe = random_recipe(seed);
    const verify::OracleResult oracle = oracle_of(RandomCall(recipe));
    expect_contained(recipe, Codes::nan_row, [&](std::int64_t t) {
      return t == poisoned_token(recipe) && oracle.routing.local_picks[static_cast<std::size_t>(t)] > 0;
    });
  }
}

TEST(PropertyNaN, in_an_experts_weights_reaches_the_tokens_that_picked_it_alone) {
  for (std::uint64_t seed = 420; seed < 432; ++seed) {
    CallRecipe recipe = random_recipe(seed);
    recipe.logits_type = contract::FloatType::f32;
    const RandomCall call(recipe);
    const auto routing = verify::route_tokens(call.geometry(), call.weights(), call.activations(), 2);
    const std::int32_t expert = poisoned_expert(recipe) + recipe.local_expert_offset;
    expect_contained(recipe, Codes::nan_expert, [&](std::int64_t t) {
      const auto& picks = routing[static_cast<std::size_t>(t)].alternatives.at(0);
      return std::any_of(picks.begin(), picks.end(), [&](const verify::Pick& pick) { return pick.expert == expert; });
    });
  }
}

TEST(PropertyBits, do_not_depend_on_the_threads_or_the_call) {
  for (std::uint64_t seed = 500; seed < 510; ++seed) {
    const RandomCall call(random_recipe(seed));
    const std::vector<std::uint16_t> once = run_library(call, 1).packed();
    EXPECT_EQ(run_library(call, 1).packed(), once) << call.recipe();
    EXPECT_EQ(run_library(call, 2).packed(), once) << call.recipe();
    EXPECT_EQ(run_library(call, 5).packed(), once) << call.recipe();
  }
}

TEST(PropertyBits, of_a_token_do_not_depend_on_the_other_tokens) {
  for (std::uint64_t seed = 520; seed < 530; ++seed) {
    CallRecipe recipe = random_recipe(seed);
    recipe.tokens = 33;
    const RandomCall call(recipe);
    const LibraryOutput together = run_library(call, 2);
    for (const auto& [first, count] : {std::pair{0, 1}, std::pair{7, 1}, std::pair{16, 3}, std::pair{20, 13}}) {
      const LibraryOutput apart = run_tokens(call, first, count, 2);
      for (std::int64_t t = 0; t < count; ++t) {
        EXPECT_TRUE(std::equal(apart.row(t), apart.row(t) + apart.width, together.row(first + t)))
            << recipe << ", token " << first + t;
      }
    }
  }
}

}  // namespace
}  // namespace blockmoe::test
