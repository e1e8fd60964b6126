// contract_accuracy.hpp: errors of the contract's sigmoid and SiLU over sets of fp32 numbers, against FP64.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

#include "contract/exp.h"

namespace blockmoe::test {

/// Relative error: that of a few FP64 operations, 1e-8 of an fp32 ulp.
inline double sigmoid_reference(double x) {
  const double e = std::exp(-std::abs(x));
  return (x > 0.0 ? 1.0 : e) / (1.0 + e);
}

/// Distance of two fp32 numbers that are next to each other around x. For finite x.
inline double ulp_of(double x) {
  const auto exponent = static_cast<std::int64_t>((std::bit_cast<std::uint64_t>(x) >> 52) & 0x7ffU) - 1023;
  return std::bit_cast<double>((std::max<std::int64_t>(exponent, -126) - 23 + 1023) << 52);
}

/// The fp32 number with the rank-th place in ascending order among all that are not NaN: -Inf has rank 0.
inline constexpr std::int64_t kRanks = 2 * std::int64_t{0x7f800000} + 1;  // both zeros count as one
inline float float_of_rank(std::int64_t rank) {
  const std::int64_t distance = rank - std::int64_t{0x7f800000};
  const auto magnitude = static_cast<std::uint32_t>(distance < 0 ? -distance : distance);
  return std::bit_cast<float>(magnitude | (distance < 0 ? 0x80000000U : 0U));
}

struct WorstCase {
  double error = 0.0;
  float at = 0.0F;

  void see(double other_error, float other_at) {
    if (!(other_error <= error)) *this = {other_error, other_at};
  }
  void see(const WorstCase& other) { see(other.error, other.at); }
};

struct Accuracy {
  std::int64_t points = 0;
  WorstCase sigmoid_ulp;
  WorstCase sigmoid_steps;    // fp32 numbers from the correctly rounded result
  WorstCase silu_ulp;         // x >= -87
  WorstCase silu_absolute;    // x < -87
  std::int64_t not_one = 0;   // sigmoid other than 1 though the true value is within 2^-26 of it
  std::int64_t not_zero = 0;  // sigmoid other than 0 though the true value is below 2^-150
  std::int64_t descents = 0;  // sigmoid smaller than that of the number before: it is not quite monotone
  WorstCase descent_steps;    // by so many fp32 numbers

  void add(const Accuracy& other) {
    points += other.points;
    sigmoid_ulp.see(other.sigmoid_ulp);
    sigmoid_steps.see(other.sigmoid_steps);
    silu_ulp.see(other.silu_ulp);
    silu_absolute.see(other.silu_absolute);
    not_one += other.not_one;
    not_zero += other.not_zero;
    descents += other.descents;
    descent_steps.see(other.descent_steps);
  }
};

/// Adds one point; returns the contract's sigmoid there.
inline float see_point(float x, Accuracy& accuracy) {
  ++accuracy.points;
  const double s = sigmoid_reference(static_cast<double>(x));
  const float got = contract::sigmoid(x);
  accuracy.sigmoid_ulp.see(std::abs(static_cast<double>(got) - s) / ulp_of(s), x);
  const std::int64_t steps =
      std::int64_t{std::bit_cast<std::int32_t>(got)} - std::int64_t{std::bit_cast<std::int32_t>(static_cast<float>(s))};
  accuracy.sigmoid_steps.see(static_cast<double>(std::abs(steps)), x);
  accuracy.not_one += s > 1.0 - 0x1p-26 && got != 1.0F ? 1 : 0;
  accuracy.not_zero += s < 0x1p-150 && got != 0.0F ? 1 : 0;

  if (!std::isfinite(x)) return got;
  const double silu = static_cast<double>(x) * s;
  const double error = std::abs(static_cast<double>(contract::silu(x)) - silu);
  if (x >= -87.0F) {
    accuracy.silu_ulp.see(error / ulp_of(silu), x);
  } else {
    accuracy.silu_absolute.see(error, x);
  }
  return got;
}

/// Ranks begin, begin + stride, ... below end.
inline Accuracy measure_accuracy(std::int64_t begin, std::int64_t end, std::int64_t stride) {
  Accuracy accuracy;
  float previous = 0.0F;
  for (std::int64_t rank = begin; rank < end; rank += stride) {
    const float x = float_of_rank(rank);
    const float s = see_point(x, accuracy);
    if (s < previous) {
      ++accuracy.descents;
      accuracy.descent_steps.see(std::bit_cast<std::int32_t>(previous) - std::bit_cast<std::int32_t>(s), x);
    }
    previous = s;
  }
  return accuracy;
}

}  // namespace blockmoe::test
