// contract_exp_test.cpp: sigmoid and SiLU of the contract over every 401st fp32 number; the sigmoid's error over every 41st, 10^8
// of them (contract_sweep takes them all).
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "contract_accuracy.hpp"
#include "verify/routing_oracle.hpp"

namespace blockmoe::contract {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr std::int64_t kStride = 401;
#if SANITIZED
constexpr std::int64_t kFineStride = kStride;  // the sanitizers look at the code, not at its accuracy
#else
constexpr std::int64_t kFineStride = 41;
#endif

const test::Accuracy& accuracy() {
  static const test::Accuracy measured = test::measure_accuracy(0, test::kRanks, kStride);
  return measured;
}

TEST(Sigmoid, the_reference_agrees_with_long_double) {
  for (std::int64_t rank = 0; rank < test::kRanks; rank += 1000 * kStride) {
    const float x = test::float_of_rank(rank);
    const long double e = std::exp(-std::abs(static_cast<long double>(x)));
    const long double s = (x > 0.0F ? 1.0L : e) / (1.0L + e);
    const double reference = test::sigmoid_reference(static_cast<double>(x));
    ASSERT_LE(std::abs(static_cast<double>(static_cast<long double>(reference) - s)), 1e-6 * test::ulp_of(reference))
        << x;
  }
}

TEST(Sigmoid, is_within_two_and_a_half_ulp_of_the_true_value) {
  const test::Accuracy fine = test::measure_accuracy(0, test::kRanks, kFineStride);
  ASSERT_GT(fine.points, 4'278'000'000 / kFineStride);
  EXPECT_LE(fine.sigmoid_ulp.error, 2.5) << "at " << fine.sigmoid_ulp.at;
}

TEST(Sigmoid, is_within_the_steps_that_the_oracle_allows) {
  EXPECT_LE(accuracy().sigmoid_steps.error, verify::kSigmoidSteps) << "at " << accuracy().sigmoid_steps.at;
}

TEST(Sigmoid, is_one_and_zero_where_the_true_value_rounds_there_for_certain) {
  EXPECT_EQ(accuracy().not_one, 0);
  EXPECT_EQ(accuracy().not_zero, 0);
}

TEST(Sigmoid, at_the_special_numbers) {
  EXPECT_EQ(sigmoid(0.0F), 0.5F);
  EXPECT_EQ(sigmoid(-0.0F), 0.5F);
  EXPECT_EQ(sigmoid(kInf), 1.0F);
  EXPECT_EQ(sigmoid(-kInf), 0.0F);
  EXPECT_TRUE(std::isnan(sigmoid(kNaN)));
  EXPECT_TRUE(std::isnan(sigmoid(-kNaN)));
}

TEST(Sigmoid, of_opposite_numbers_adds_up_to_one) {
  for (int i = 0; i < 2000; ++i) {
    const float x = 0.01F * static_cast<float>(i);
    EXPECT_NEAR(sigmoid(x) + sigmoid(-x), 1.0F, 0x1p-22F) << x;
  }
}

TEST(Silu, is_within_five_ulp_from_minus_87_up) {
  EXPECT_LE(accuracy().silu_ulp.error, 5.0) << "at " << accuracy().silu_ulp.at;
}

TEST(Silu, is_within_1e_minus_36_below_minus_87) {
  EXPECT_LE(accuracy().silu_absolute.error, 1e-36) << "at " << accuracy().silu_absolute.at;
}

TEST(Silu, at_the_special_numbers) {
  EXPECT_EQ(silu(0.0F), 0.0F);
  EXPECT_EQ(silu(kInf), kInf);
  EXPECT_TRUE(std::isnan(silu(-kInf)));
  EXPECT_TRUE(std::isnan(silu(kNaN)));
}

}  // namespace
}  // namespace blockmoe::contract
