// contract_pruning_test.cpp: which local picks an opt-in caller's rule leaves.
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <ostream>
#include <random>
#include <string>
#include <vector>

#include "contract/pruning.h"
#include "routing_reference.hpp"

namespace blockmoe::contract {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr std::uint32_t kAll = ~0U;

/// Sets of picks are written as bits: 0b0101 holds picks 0 and 2.
struct Case {
  const char* name;
  Pruning rule;
  std::vector<float> weights;
  std::uint32_t local;
  std::uint32_t kept;
  std::uint32_t picked = kAll;

  friend std::ostream& operator<<(std::ostream& stream, const Case& tested) { return stream << tested.name; }
};

class PruningRule : public testing::TestWithParam<Case> {};

TEST_P(PruningRule, keeps) {
  const Case& c = GetParam();
  const TokenPicks picks = {c.weights.data(), static_cast<std::int32_t>(c.weights.size()), c.picked, c.local};
  EXPECT_EQ(kept_picks(c.rule, picks), c.kept);
}

INSTANTIATE_TEST_SUITE_P(
    table, PruningRule,
    testing::Values(
        Case{"all_where_it_is_off", {}, {0.5F, 0.25F, 0.125F, 0.125F}, 0b1011, 0b1011},
        Case{"the_largest_weights_wherever_they_stand", {2, 0}, {0.1F, 0.4F, 0.2F, 0.3F}, 0b1111, 0b1010},
        Case{"the_first_of_equal_weights", {2, 0}, {0.25F, 0.25F, 0.25F, 0.25F}, 0b1110, 0b0110},
        Case{"the_first_of_equal_weights_behind_a_larger_one", {2, 0}, {0.2F, 0.2F, 0.4F, 0.2F}, 0b1111, 0b0101},
        Case{"as_many_as_there_are", {4, 0}, {0.5F, 0.5F}, 0b11, 0b11},
        Case{"no_place_for_picks_elsewhere", {1, 0}, {0.7F, 0.1F, 0.2F}, 0b110, 0b100},
        Case{"shares_of_the_whole_tokens_weights", {0, 0.3F}, {0.5F, 0.25F, 0.25F}, 0b110, 0b000},
        Case{"a_share_that_is_just_reached", {0, 0.25F}, {0.5F, 0.25F, 0.25F}, 0b111, 0b111},
        Case{"whatever_the_factor_of_the_weights", {0, 0.25F}, {2.0F, 1.0F, 0.5F, 0.5F}, 0b1111, 0b0011},
        Case{"both_rules", {1, 0.2F}, {0.1F, 0.4F, 0.5F}, 0b011, 0b010},
        Case{"fewer_than_allowed_where_shares_are_small", {2, 0.3F}, {0.8F, 0.1F, 0.1F}, 0b111, 0b001},
        Case{"negative_weights_by_their_size", {1, 0}, {0.25F, -0.5F, 0.25F}, 0b111, 0b010},
        Case{"shares_of_sizes", {0, 0.3F}, {1.0F, -1.0F, 0.25F}, 0b111, 0b011},
        Case{"ties_of_either_sign", {1, 0}, {-0.5F, 0.5F}, 0b11, 0b01},
        Case{"no_zero_beside_a_weight", {0, 0.01F}, {0.0F, 1.0F, -0.0F}, 0b111, 0b010},
        Case{"zeros_where_all_are", {0, 0.5F}, {0.0F, -0.0F, 0.0F}, 0b111, 0b111},
        Case{"the_first_zeros", {2, 0}, {-0.0F, 0.0F, 0.0F}, 0b111, 0b011},
        Case{"a_nan_before_all_numbers", {1, 0}, {kInf, kNaN, 1.0F}, 0b111, 0b010},
        Case{"a_nan_of_either_sign", {1, 0}, {1.0F, -kNaN}, 0b11, 0b10},
        Case{"all_shares_where_a_nan_is", {0, 0.9F}, {kNaN, 0.5F, 0.5F}, 0b110, 0b110},
        Case{"infinities_alone", {0, 0.01F}, {kInf, 1.0F, -kInf}, 0b111, 0b101},
        Case{"no_weight_of_what_is_no_expert", {0, 0.5F}, {kNaN, 100.0F, 1.0F, 0.5F}, 0b1100, 0b0100, 0b1100},
        Case{"subnormal_weights", {0, 0.5F}, {1e-44F, 4e-44F}, 0b11, 0b10},
        Case{"none_of_none", {2, 0.1F}, {0.5F, 0.5F}, 0b00, 0b00}),
    [](const auto& tested) { return std::string(tested.param.name); });

TEST(PruningRule, keeps_what_sorting_does_of_any_bits) {
  std::mt19937 random(5);
  for (int round = 0; round < 20000; ++round) {
    const auto count = static_cast<std::int32_t>(1 + random() % 32);
    std::vector<float> weights;
    for (std::int32_t j = 0; j < count; ++j) {
      const bool drawn = round % 2 == 0;
      weights.push_back(drawn ? float_of(static_cast<std::uint32_t>(random())) : static_cast<float>(random() % 4) - 1);
    }
    const auto picked = static_cast<std::uint32_t>(random());
    const Pruning rule = {static_cast<std::int32_t>(random() % 9), static_cast<float>(random() % 16) / 32.0F};
    const TokenPicks picks = {weights.data(), count, picked, picked & static_cast<std::uint32_t>(random())};
    ASSERT_EQ(kept_picks(rule, picks), test::kept_by_sorting(rule, picks)) << round;
  }
}

}  // namespace
}  // namespace blockmoe::contract
