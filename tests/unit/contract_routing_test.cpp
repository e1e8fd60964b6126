// contract_routing_test.cpp: the arithmetic and the tie rules of routing, each function alone.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "contract/e4m3.h"
#include "contract/routing.h"

namespace blockmoe::contract {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

/// Every bf16 number that is not NaN, ascending.
std::vector<float> all_bf16() {
  std::vector<float> all;
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = bf16_decode(static_cast<std::uint16_t>(bits));
    if (!std::isnan(value) && bits != 0x8000U) all.push_back(value);  // -0 is +0
  }
  std::sort(all.begin(), all.end());
  return all;
}

/// The rule itself: a larger score wins; of equal ones the lower number.
bool wins(float score, std::uint32_t number, float other_score, std::uint32_t other_number) {
  return score != other_score ? score > other_score : number < other_number;
}

TEST(ChoiceKey, orders_all_bf16_pairs_near_ties_by_score_then_lower_number) {
  const std::vector<float> all = all_bf16();
  const std::vector<std::uint32_t> numbers = {0, 1, 2, 255, 1023};
  for (std::size_t i = 0; i < all.size(); ++i) {
    for (std::size_t j = i; j < std::min(all.size(), i + 3); ++j) {
      for (const std::uint32_t a : numbers) {
        for (const std::uint32_t b : numbers) {
          if (i == j && a == b) continue;
          ASSERT_EQ(choice_key(all[i], a) > choice_key(all[j], b), wins(all[i], a, all[j], b))
              << all[i] << " of " << a << " against " << all[j] << " of " << b;
        }
      }
    }
  }
}

TEST(ChoiceKey, orders_fp32_neighbours_and_distant_pairs) {
  std::mt19937 random(3);
  std::vector<float> values = {-FLT_MAX, FLT_MAX, -kInf, kInf, 0.0F, FLT_TRUE_MIN, -FLT_TRUE_MIN, 1.0F};
  while (values.size() < 2000) {
    const auto x = std::bit_cast<float>(static_cast<std::uint32_t>(random()));
    if (!std::isfinite(x) || x == 0.0F) continue;
    values.push_back(x);
    values.push_back(std::nextafter(x, kInf));
  }
  for (const float x : values) {
    for (const float y : values) {
      ASSERT_EQ(choice_key(x, 5) > choice_key(y, 6), wins(x, 5, y, 6)) << x << " against " << y;
      ASSERT_EQ(choice_key(x, 6) > choice_key(y, 5), wins(x, 6, y, 5)) << x << " against " << y;
    }
  }
}

TEST(ChoiceKey, gives_its_number_back_and_is_never_zero) {
  for (const float score : {-kInf, -FLT_MAX, -1.0F, 0.0F, 1.0F, FLT_MAX, kInf}) {
    for (std::uint32_t number = 0; number < 1024; ++number) {
      ASSERT_EQ(number_of_key(choice_key(score, number)), number);
      ASSERT_GT(choice_key(score, number), 0U);
    }
  }
}

TEST(ChoiceScore, adds_the_bias_with_one_rounding) {
  const std::vector<float> biases = all_bf16();
  for (const float s : {0.0F, FLT_TRUE_MIN, 0.25F, 0.5F, 0.731058598F, 0.99999994F, 1.0F}) {
    for (const float bias : biases) {
      const double sum = static_cast<double>(s) + static_cast<double>(bias);
      const float expected = std::clamp(static_cast<float>(sum), -FLT_MAX, FLT_MAX);
      // Rounding twice is rounding once here: FP64 holds every sum exactly that lies near a border of fp32.
      ASSERT_EQ(choice_score(s, bias), expected) << s << " + " << bias;
    }
  }
}

TEST(ChoiceScore, of_nan_is_the_lowest_finite_number) {
  EXPECT_EQ(choice_score(kNaN, 0.5F), -FLT_MAX);
  EXPECT_EQ(choice_score(0.5F, kNaN), -FLT_MAX);
  EXPECT_EQ(choice_score(sigmoid(kNaN), 1e30F), -FLT_MAX);
}

TEST(ChoiceScore, is_clamped_to_finite_numbers) {
  EXPECT_EQ(choice_score(1.0F, kInf), FLT_MAX);
  EXPECT_EQ(choice_score(0.0F, -kInf), -FLT_MAX);
}

TEST(ChoiceScore, knows_one_zero) {
  EXPECT_EQ(std::bit_cast<std::uint32_t>(choice_score(0.0F, -0.0F)), 0U);
  EXPECT_EQ(choice_key(choice_score(0.0F, -0.0F), 4), choice_key(choice_score(0.0F, 0.0F), 4));
}

TEST(GroupScore, is_the_sum_of_two_with_one_zero) {
  EXPECT_EQ(group_score(0.75F, 0.5F), 1.25F);
  EXPECT_EQ(group_score(-FLT_MAX, -FLT_MAX), -kInf);
  EXPECT_EQ(group_score(FLT_MAX, FLT_MAX), kInf);
  EXPECT_EQ(std::bit_cast<std::uint32_t>(group_score(-0.0F, -0.0F)), 0U);
}

TEST(MixingScore, of_nan_is_zero) {
  EXPECT_EQ(mixing_score(kNaN), 0.0F);
  EXPECT_EQ(mixing_score(0.3F), sigmoid(0.3F));
}

TEST(RoutingWeight, is_the_share_of_the_sum_times_the_factor) {
  EXPECT_EQ(routing_weight(0.5F, 2.0F, 2.5F), 0.625F);
  EXPECT_EQ(routing_weight(1.0F, 1.0F, 1.0F), 1.0F);
}

TEST(RoutingWeight, is_zero_when_every_score_is_zero) {
  EXPECT_EQ(routing_weight(0.0F, 0.0F, 2.5F), 0.0F);
}

TEST(RoutingWeight, of_the_smallest_scores_is_divided_by_the_addend) {
  EXPECT_EQ(routing_weight(1e-30F, 1e-30F, 1.0F), 1e-30F / (1e-30F + 1e-20F));
}

}  // namespace
}  // namespace blockmoe::contract
