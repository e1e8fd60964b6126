// contract_float_test.cpp: e4m3 and bf16 of the contract, code by code and border by border, against their definitions.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "contract/e4m3.h"

namespace blockmoe::contract {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

/// OCP FP8 E4M3, from its definition.
double definition_of(int code) {
  const int exponent = (code >> 3) & 0xf;
  const int mantissa = code & 0x7;
  const double magnitude = exponent == 0 ? mantissa * 0x1p-9 : (1.0 + mantissa / 8.0) * std::exp2(exponent - 7);
  return (code & 0x80) != 0 ? -magnitude : magnitude;
}

bool is_nan_code(int code) {
  return (code & 0x7f) == 0x7f;
}

/// The code of |x| by search among all 127 magnitudes: the nearest, of two equally near ones the even one.
int nearest_magnitude(float x) {
  static const std::vector<double> magnitudes = [] {
    std::vector<double> all(0x7f);
    for (std::size_t code = 0; code < all.size(); ++code) all[code] = definition_of(static_cast<int>(code));
    return all;
  }();
  const double magnitude = std::abs(static_cast<double>(x));
  const auto above = std::lower_bound(magnitudes.begin(), magnitudes.end(), magnitude);
  if (above == magnitudes.end()) return 0x7e;
  const int upper = static_cast<int>(above - magnitudes.begin());
  if (upper == 0) return 0;
  const double to_upper = *above - magnitude;
  const double to_lower = magnitude - *(above - 1);
  if (to_upper != to_lower) return to_upper < to_lower ? upper : upper - 1;
  return upper % 2 == 0 ? upper : upper - 1;
}

void expect_encoded(float x) {
  const int sign = std::signbit(x) ? 0x80 : 0;
  ASSERT_EQ(e4m3_encode(x), sign | nearest_magnitude(x)) << "x = " << x;
}

/// Calls visit(float) for the fp32 numbers from `steps` below to `steps` above x.
template <typename Visit>
void around(float x, int steps, const Visit& visit) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  for (int step = -steps; step <= steps; ++step) {
    const std::uint32_t near = bits + static_cast<std::uint32_t>(step);
    if ((near ^ bits) < 0x80000000U) visit(std::bit_cast<float>(near));  // same sign
  }
}

TEST(E4m3, every_code_decodes_to_its_definition) {
  for (int code = 0; code < 256; ++code) {
    const float value = e4m3_decode(static_cast<std::uint8_t>(code));
    if (is_nan_code(code)) {
      EXPECT_TRUE(std::isnan(value)) << code;
    } else {
      EXPECT_EQ(static_cast<double>(value), definition_of(code)) << code;
      EXPECT_EQ(std::signbit(value), (code & 0x80) != 0) << code;
    }
  }
}

TEST(E4m3, every_code_survives_decode_and_encode) {
  for (int code = 0; code < 256; ++code) {
    const int expected = is_nan_code(code) ? kE4m3NaN : code;
    EXPECT_EQ(e4m3_encode(e4m3_decode(static_cast<std::uint8_t>(code))), expected) << code;
  }
}

TEST(E4m3, every_rounding_border_is_exact) {
  for (int code = 0; code < 0x7e; ++code) {
    const double border = (definition_of(code) + definition_of(code + 1)) / 2.0;
    for (const double at : {border, -border, definition_of(code), -definition_of(code)}) {
      around(static_cast<float>(at), 300, expect_encoded);
    }
  }
}

TEST(E4m3, random_numbers_of_every_magnitude_round_to_the_nearest) {
  std::mt19937 random(17);
  for (int i = 0; i < 10'000'000; ++i) {
    const auto x = std::bit_cast<float>(static_cast<std::uint32_t>(random()));
    if (std::isfinite(x)) expect_encoded(x);
  }
}

TEST(E4m3, random_numbers_in_range_round_to_the_nearest) {
  std::mt19937 random(18);
  std::uniform_real_distribution<float> exponent(-13.0F, 10.0F);
  for (int i = 0; i < 1'000'000; ++i) expect_encoded(std::exp2(exponent(random)) * (i % 2 == 0 ? 1.0F : -1.0F));
}

TEST(E4m3, beyond_the_largest_value_saturates) {
  for (const float x : {448.0F, 449.0F, 464.0F, 480.0F, 1e9F, std::numeric_limits<float>::max(), kInf}) {
    EXPECT_EQ(e4m3_encode(x), 0x7e) << x;
    EXPECT_EQ(e4m3_encode(-x), 0xfe) << -x;
  }
}

TEST(E4m3, any_nan_encodes_to_one_code) {
  for (const std::uint32_t bits : {0x7fc00000U, 0xffc00000U, 0x7f800001U, 0xff800001U, 0x7fffffffU, 0xffffffffU}) {
    EXPECT_EQ(e4m3_encode(std::bit_cast<float>(bits)), kE4m3NaN) << bits;
  }
}

TEST(E4m3, zero_keeps_its_sign) {
  EXPECT_EQ(e4m3_encode(0.0F), 0x00);
  EXPECT_EQ(e4m3_encode(-0.0F), 0x80);
}

TEST(Bf16, every_pattern_decodes_to_the_fp32_number_that_begins_with_it) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    ASSERT_EQ(std::bit_cast<std::uint32_t>(bf16_decode(static_cast<std::uint16_t>(bits))), bits << 16);
  }
}

TEST(Bf16, every_pattern_survives_decode_and_encode) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = bf16_decode(static_cast<std::uint16_t>(bits));
    ASSERT_EQ(bf16_encode(value), std::isnan(value) ? 0x7fffU : bits);
  }
}

TEST(Bf16, every_rounding_border_goes_to_the_even_pattern) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    if ((bits & 0x7f80U) == 0x7f80U) continue;  // Inf and NaN
    const std::uint32_t border = (bits << 16) + 0x8000U;
    ASSERT_EQ(bf16_encode(std::bit_cast<float>(border - 1)), bits);
    ASSERT_EQ(bf16_encode(std::bit_cast<float>(border)), bits + (bits & 1U));
    ASSERT_EQ(bf16_encode(std::bit_cast<float>(border + 1)), bits + 1);
  }
}

TEST(Bf16, any_nan_encodes_to_one_pattern) {
  for (const float nan : {kNaN, -kNaN, std::bit_cast<float>(0x7f800001U)}) EXPECT_EQ(bf16_encode(nan), 0x7fffU);
}

}  // namespace
}  // namespace blockmoe::contract
