// contract_requantise_test.cpp: the scale of a block of 128 values and their codes.
#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>

#include "contract/requantise.h"

namespace blockmoe::contract {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kSmallest = 0x1p-100F;

using Block = std::array<float, 128>;

struct Requantised {
  BlockScale scale;
  std::array<std::uint8_t, 128> codes;
  std::array<std::uint8_t, 128> residuals;
};

Requantised requantise_block(const Block& values) {
  float amax = 0.0F;
  for (const float value : values) amax = amax_step(amax, value);
  Requantised block{block_scale(amax), {}, {}};
  for (std::size_t i = 0; i < values.size(); ++i) {
    block.codes[i] = requantise(values[i], block.scale.inverse);
    block.residuals[i] = requantise_residual(values[i], block.scale.inverse, block.codes[i]);
  }
  return block;
}

// Normal values times 2^exponent.
Block normal_block(std::mt19937& random, int exponent) {
  std::normal_distribution<float> normal;
  Block values{};
  for (float& value : values) value = std::ldexp(normal(random), exponent);
  return values;
}

TEST(Requantise, amax_is_the_largest_magnitude) {
  EXPECT_EQ(amax_step(2.0F, -3.0F), 3.0F);
  EXPECT_EQ(amax_step(2.0F, 1.0F), 2.0F);
  EXPECT_EQ(amax_step(0.0F, -0.0F), 0.0F);
  EXPECT_EQ(amax_step(5.0F, -kInf), kInf);
}

TEST(Requantise, amax_ignores_nan) {
  EXPECT_EQ(amax_step(2.0F, kNaN), 2.0F);
  EXPECT_EQ(amax_step(0.0F, -kNaN), 0.0F);
}

TEST(Requantise, scale_and_inverse_are_rounded_quotients) {
  std::mt19937 random(5);
  std::uniform_real_distribution<float> exponent(-99.9F, 127.9F);
  for (int i = 0; i < 100'000; ++i) {
    const float amax = std::exp2(exponent(random));
    const BlockScale scale = block_scale(amax);
    // The nearest fp32 number to an FP64 quotient of two fp32 numbers is the nearest to the true one.
    ASSERT_EQ(scale.scale, static_cast<float>(static_cast<double>(amax) / 448.0)) << amax;
    ASSERT_EQ(scale.inverse, static_cast<float>(448.0 / static_cast<double>(amax))) << amax;
  }
}

TEST(Requantise, below_2_to_minus_100_the_scale_is_one_and_the_inverse_zero) {
  for (const float amax : {0.0F, 0x1p-149F, 0x1p-126F, std::nextafter(kSmallest, 0.0F)}) {
    EXPECT_EQ(block_scale(amax).scale, 1.0F) << amax;
    EXPECT_EQ(block_scale(amax).inverse, 0.0F) << amax;
  }
  EXPECT_EQ(block_scale(kSmallest).scale, kSmallest / 448.0F);
}

TEST(Requantise, a_tiny_block_has_zero_codes) {
  Block values{};
  values.fill(-0x1p-101F);
  values[7] = 0x1p-130F;
  for (const std::uint8_t code : requantise_block(values).codes) EXPECT_EQ(code & 0x7f, 0);
  for (const std::uint8_t code : requantise_block(values).residuals) EXPECT_EQ(code & 0x7f, 0);
}

TEST(Requantise, the_largest_value_takes_the_largest_code) {
  std::mt19937 random(6);
  std::uniform_real_distribution<float> exponent(-99.9F, 127.9F);
  for (int i = 0; i < 100'000; ++i) {
    const float amax = std::exp2(exponent(random));
    ASSERT_EQ(requantise(amax, block_scale(amax).inverse), 0x7e) << amax;
    ASSERT_EQ(requantise(-amax, block_scale(amax).inverse), 0xfe) << amax;
  }
}

TEST(Requantise, a_value_comes_back_within_half_a_step) {
  std::mt19937 random(7);
  for (int block = 0; block < 1000; ++block) {
    const Block values = normal_block(random, block % 100 - 50);
    const Requantised result = requantise_block(values);
    for (std::size_t i = 0; i < values.size(); ++i) {
      const float back = e4m3_decode(result.codes[i]) * result.scale.scale;
      const float half_step = std::max(std::abs(values[i]) * 0x1p-4F, result.scale.scale * 0x1p-10F);
      ASSERT_LE(std::abs(back - values[i]), half_step * 1.00001F) << values[i];
    }
  }
}

TEST(Requantise, a_value_of_two_terms_comes_back_within_half_a_step_of_the_second) {
  std::mt19937 random(8);
  for (int block = 0; block < 1000; ++block) {
    const Block values = normal_block(random, block % 100 - 50);
    const Requantised result = requantise_block(values);
    for (std::size_t i = 0; i < values.size(); ++i) {
      const double scale = result.scale.scale;
      const double back = e4m3_decode(result.codes[i]) * scale +
                          e4m3_decode(result.residuals[i]) * double{residual_scale(result.scale.scale)};
      // The first term is at most 2^-4 of the value from it, the second 2^-4 of that or half of the least step.
      const double half_step = std::max(std::abs(double{values[i]}) * 0x1p-8, scale * 0x1p-14);
      ASSERT_LE(std::abs(back - values[i]), half_step + std::abs(double{values[i]}) * 0x1p-22) << values[i];
    }
  }
}

TEST(Requantise, a_residual_never_saturates_and_is_zero_where_a_code_is_exact) {
  const float inverse = block_scale(kE4m3Max).inverse;
  for (int code = 0; code < 256; ++code) {
    const float value = e4m3_decode(static_cast<std::uint8_t>(code));
    if (std::isnan(value)) continue;
    EXPECT_EQ(requantise_residual(value, inverse, requantise(value, inverse)) & 0x7f, 0) << code;
  }
  for (int step = -448 * 128; step <= 448 * 128; ++step) {
    const float value = static_cast<float>(step) / 128.0F;
    const float residual = e4m3_decode(requantise_residual(value, inverse, requantise(value, inverse)));
    ASSERT_LE(std::abs(residual), 256.0F) << value;
  }
}

TEST(Requantise, a_nan_is_nan_in_both_terms_and_changes_no_other) {
  Block values{};
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i) * 1.1F - 60.0F;
  const Requantised without = requantise_block(values);
  values[3] = kNaN;
  const Requantised with = requantise_block(values);
  EXPECT_EQ(with.residuals[3], kE4m3NaN);
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (i != 3) {
      EXPECT_EQ(with.residuals[i], without.residuals[i]) << i;
    }
  }
}

TEST(Requantise, a_nan_keeps_its_place_and_changes_no_other_code) {
  Block values{};
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i) - 60.0F;
  const Requantised without = requantise_block(values);
  values[3] = kNaN;
  const Requantised with = requantise_block(values);
  EXPECT_EQ(with.codes[3], kE4m3NaN);
  EXPECT_EQ(with.scale.scale, without.scale.scale);
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (i != 3) {
      EXPECT_EQ(with.codes[i], without.codes[i]) << i;
    }
  }
}

TEST(Requantise, a_block_of_nan_alone_keeps_them) {
  Block values{};
  values.fill(kNaN);
  const Requantised result = requantise_block(values);
  EXPECT_EQ(result.scale.scale, 1.0F);
  for (const std::uint8_t code : result.codes) EXPECT_EQ(code, kE4m3NaN);
}

TEST(Requantise, an_infinity_makes_the_whole_block_nan_or_infinite) {
  for (const float infinity : {kInf, -kInf}) {
    Block values{};
    values.fill(1.5F);
    values[100] = infinity;
    const Requantised result = requantise_block(values);
    EXPECT_EQ(result.scale.scale, kInf);
    for (const std::uint8_t code : result.codes) {
      EXPECT_FALSE(std::isfinite(e4m3_decode(code) * result.scale.scale)) << static_cast<int>(code);
    }
    EXPECT_EQ(residual_scale(result.scale.scale), kInf);
  }
}

TEST(Requantise, a_negative_zero_is_a_zero_code) {
  EXPECT_EQ(requantise(-0.0F, block_scale(3.0F).inverse), 0x80);
  EXPECT_EQ(requantise(0.0F, block_scale(3.0F).inverse), 0x00);
}

}  // namespace
}  // namespace blockmoe::contract
