// approximate.h: a special-function unit that is as wrong as its users must bear.
#pragma once

#include <cmath>
#include <cstdint>

namespace blockmoe::ptx {

// Such that 1 / (1 + 2^x) is wrong by 7/8 of what stages/sigmoid.cuh allows, up or down by the roll of a die; what is left
// is for the rounding of that sum and quotient.
inline float ex2_approx(float x) {
  static std::uint32_t die = 1;
  die = die * 1664525U + 1013904223U;
  const double error = 0.875 / (1 << 21);
  const double right = 1.0 / (1.0 + std::exp2(static_cast<double>(x)));
  const double wrong = right + (die >> 31 == 0 ? error : -error);
  if (!(wrong > 0.0 && wrong < 1.0)) return static_cast<float>(std::exp2(static_cast<double>(x)));
  return static_cast<float>((1.0 - wrong) / wrong);
}

inline float rcp_approx(float x) {
  const auto y = static_cast<float>(1.0 / static_cast<double>(x));
  return std::fabs(y) < 0x1p-126F ? std::copysign(0.0F, y) : y;
}

}  // namespace blockmoe::ptx
