// oracle_compare_test.cpp: what the comparison counts, passes and fails, on an oracle's result made by hand.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "verify/compare.hpp"

namespace blockmoe::verify {
namespace {

constexpr std::int64_t kWidth = 128;
constexpr std::uint16_t kBf16NaN = 0x7fc0;
constexpr std::uint16_t kBf16Inf = 0x7f80;

std::uint16_t bf16(double value) {
  return static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(static_cast<float>(value)) >> 16);
}

/// Three tokens: one with a row of hundreds, one without a local pick, one with picks that a sample left out.
class OracleCompare : public testing::Test {
 protected:
  OracleCompare() {
    oracle.geometry.hidden = kWidth;
    oracle.tokens = 3;
    oracle.routing.local_picks = {2, 0, 1};
    oracle.checked = {0, 1};
    oracle.first_row = {0, 1, 2};
    oracle.out_of_range = {0, 0};
    for (std::int64_t i = 0; i < 2 * kWidth; ++i)
      oracle.plain.push_back(i < kWidth ? 128.0 + static_cast<double>(i) : 0.0);
    oracle.requantised = oracle.plain;
    for (const double value : oracle.plain) output.push_back(bf16(value));
    output.resize(3 * kWidth, bf16(1.0));
  }

  Comparison run() const { return compare(oracle, output.data(), kWidth); }

  OracleResult oracle;
  std::vector<std::uint16_t> output;
};

TEST_F(OracleCompare, exact_rows_pass) {
  const Comparison result = run();
  EXPECT_TRUE(result.within_tolerance);
  EXPECT_TRUE(result.within_gates);
  EXPECT_EQ(result.fault, "");
  EXPECT_EQ(result.matched_ratio, 1.0);
  EXPECT_EQ(result.rel_l2_requantised, 0.0);
  EXPECT_EQ(result.rel_l2_plain, 0.0);
  EXPECT_EQ(result.checked_tokens, 2);
  EXPECT_EQ(result.tokens, 3);
}

TEST_F(OracleCompare, the_pitch_is_honoured) {
  std::vector<std::uint16_t> pitched(3 * 200, kBf16NaN);
  for (std::size_t t = 0; t < 3; ++t) {
    for (std::size_t i = 0; i < kWidth; ++i) pitched[t * 200 + i] = output[t * kWidth + i];
  }
  EXPECT_TRUE(compare(oracle, pitched.data(), 200).within_gates);
}

TEST_F(OracleCompare, an_element_fails_only_beyond_both_tolerances) {
  output[0] = bf16(128.0 * 1.25);  // beyond atol, within rtol
  EXPECT_EQ(run().matched_ratio, 1.0);
  output[0] = bf16(128.0 * 1.5);
  EXPECT_EQ(run().matched_ratio, 255.0 / 256.0);
  oracle.plain[0] = 0.5;
  output[0] = bf16(1.25);  // beyond rtol, within atol
  EXPECT_EQ(run().matched_ratio, 1.0);
}

TEST_F(OracleCompare, too_many_failing_elements_fail_the_whole) {
  for (std::size_t i = 0; i < 26; ++i) output[i] = bf16(0.0);
  const Comparison result = run();
  EXPECT_EQ(result.matched_ratio, 230.0 / 256.0);
  EXPECT_FALSE(result.within_tolerance);
  EXPECT_NE(result.fault.find("matched ratio 0.8984, required 0.9"), std::string::npos) << result.fault;
}

TEST_F(OracleCompare, the_largest_error_has_its_place) {
  output[17] = bf16(100.0);
  const LargestError largest = run().largest;
  EXPECT_EQ(largest.token, 0);
  EXPECT_EQ(largest.column, 17);
  EXPECT_EQ(largest.got, 100.0);
  EXPECT_EQ(largest.expected, 145.0);
  EXPECT_EQ(largest.error, 45.0);
}

TEST_F(OracleCompare, each_relative_l2_has_its_own_reference_and_gate) {
  for (std::size_t i = 0; i < kWidth; ++i) oracle.requantised[i] *= 1.01;
  const Comparison result = run();
  EXPECT_NEAR(result.rel_l2_requantised, 0.01 / 1.01, 1e-12);
  EXPECT_EQ(result.rel_l2_plain, 0.0);
  EXPECT_TRUE(result.within_tolerance);
  EXPECT_FALSE(result.within_gates);
  EXPECT_NE(result.fault.find("against the requantising oracle"), std::string::npos) << result.fault;

  oracle.requantised = oracle.plain;
  for (std::size_t i = 0; i < kWidth; ++i) oracle.plain[i] *= 1.03;
  EXPECT_FALSE(run().within_gates);
  EXPECT_NE(run().fault.find("against the plain oracle"), std::string::npos) << run().fault;
}

TEST_F(OracleCompare, gates_differ_by_backend) {
  for (std::size_t i = 0; i < kWidth; ++i) oracle.requantised[i] *= 1.004;
  EXPECT_FALSE(compare(oracle, output.data(), kWidth, {}, kCpuGates).within_gates);
  EXPECT_TRUE(compare(oracle, output.data(), kWidth, {}, kTensorCoreGates).within_gates);
}

TEST_F(OracleCompare, two_terms_are_held_to_the_plain_oracle_closely) {
  for (std::size_t i = 0; i < kWidth; ++i) oracle.requantised[i] *= 1.02;
  EXPECT_TRUE(compare(oracle, output.data(), kWidth, {}, kTwoTermGates).within_gates);
  for (std::size_t i = 0; i < kWidth; ++i) oracle.plain[i] *= 1.003;
  EXPECT_FALSE(compare(oracle, output.data(), kWidth, {}, kTwoTermGates).within_gates);
}

TEST_F(OracleCompare, a_small_row_does_not_hide_behind_a_large_one) {
  oracle.routing.local_picks[1] = 1;
  for (std::size_t i = kWidth; i < 2 * kWidth; ++i) {
    oracle.plain[i] = oracle.requantised[i] = 0.01;
    output[i] = bf16(0.02);
  }
  const Comparison result = run();
  EXPECT_LT(result.rel_l2_requantised, kCpuGates.requantised);
  EXPECT_EQ(result.worst_row.token, 1);
  EXPECT_FALSE(result.within_gates);
  EXPECT_NE(result.fault.find("in the row of token 1"), std::string::npos) << result.fault;
}

TEST_F(OracleCompare, errors_below_2_to_minus_100_are_none) {
  for (std::size_t i = 0; i < kWidth; ++i) {
    oracle.plain[i] = oracle.requantised[i] = 0x1p-101;
    output[i] = 0;
  }
  EXPECT_TRUE(run().within_gates);
}

TEST_F(OracleCompare, one_unexpected_nan_or_infinity_fails_the_whole) {
  for (const std::uint16_t bad : {kBf16NaN, kBf16Inf}) {
    for (const std::size_t token : {std::size_t{0}, std::size_t{1}, std::size_t{2}}) {  // the last one is not checked
      std::vector<std::uint16_t> changed = output;
      changed[token * kWidth + 5] = bad;
      const Comparison result = compare(oracle, changed.data(), kWidth);
      EXPECT_EQ(result.unexpected_non_finite, 1) << token;
      EXPECT_FALSE(result.within_tolerance) << token;
      EXPECT_FALSE(result.within_gates) << token;
      EXPECT_NE(result.fault.find("1 elements are NaN or Inf"), std::string::npos) << result.fault;
    }
  }
}

TEST_F(OracleCompare, nan_is_required_where_the_oracle_has_it) {
  oracle.plain[3] = oracle.requantised[3] = std::nan("");
  EXPECT_EQ(run().missing_non_finite, 1);
  EXPECT_FALSE(run().within_tolerance);
  for (const std::uint16_t good : {kBf16NaN, kBf16Inf}) {
    output[3] = good;
    EXPECT_TRUE(run().within_gates);
    EXPECT_EQ(run().matched_ratio, 1.0);
  }
}

TEST_F(OracleCompare, rows_without_a_local_pick_must_be_zero) {
  output[kWidth + 9] = 1;  // the smallest positive bf16
  const Comparison result = run();
  EXPECT_EQ(result.nonzero_without_pick, 1);
  EXPECT_FALSE(result.within_tolerance);
  EXPECT_FALSE(result.within_gates);
  output[kWidth + 9] = 0x8000;
  EXPECT_TRUE(run().within_gates);
}

TEST_F(OracleCompare, rows_without_a_local_pick_must_be_zero_when_not_checked) {
  oracle.checked = {0};
  oracle.first_row = {0, 1};
  output[kWidth + 9] = bf16(2.0);
  EXPECT_EQ(run().nonzero_without_pick, 1);
  EXPECT_FALSE(run().within_gates);
}

TEST_F(OracleCompare, the_nearest_alternative_counts) {
  oracle.checked = {0};
  oracle.first_row = {0, 2};  // both rows are outcomes of token 0
  oracle.routing.local_picks = {-1, 0, 1};
  for (std::size_t i = 0; i < kWidth; ++i) output[i] = bf16(0.0);
  for (std::size_t i = kWidth; i < 2 * kWidth; ++i) output[i] = bf16(0.0);
  EXPECT_TRUE(run().within_gates);
  for (std::size_t i = 0; i < kWidth; ++i) output[i] = bf16(128.0 + static_cast<double>(i));
  EXPECT_TRUE(run().within_gates);
  for (std::size_t i = 0; i < kWidth; ++i) output[i] = bf16(60.0);
  EXPECT_FALSE(run().within_gates);
}

TEST_F(OracleCompare, out_of_range_rows_and_unknown_picks_promise_nothing) {
  oracle.out_of_range[0] = 1;
  output[4] = kBf16Inf;
  Comparison result = run();
  EXPECT_TRUE(result.within_gates);
  EXPECT_EQ(result.not_promised, kWidth);

  oracle.out_of_range[0] = 0;
  oracle.first_row = {0, 0, 1};
  oracle.plain.erase(oracle.plain.begin(), oracle.plain.begin() + kWidth);
  oracle.requantised = oracle.plain;
  result = run();
  EXPECT_TRUE(result.within_gates);
  EXPECT_EQ(result.not_promised, kWidth);
}

TEST(OracleCompareEmpty, a_call_without_tokens_passes) {
  OracleResult oracle;
  oracle.geometry.hidden = kWidth;
  oracle.first_row = {0};
  const Comparison result = compare(oracle, nullptr, kWidth);
  EXPECT_TRUE(result.within_tolerance);
  EXPECT_TRUE(result.within_gates);
  EXPECT_EQ(result.largest.token, -1);
}

}  // namespace
}  // namespace blockmoe::verify
