// fp32_range.hpp: where FP64 must follow fp32: its range, not its precision.
#pragma once

#include <cmath>

namespace blockmoe::verify {

/// From here on a sum in fp32 may overflow in one order and not in another: nothing is promised.
inline constexpr double kOverflow = 0x1p126;

/// What the operator treats as nothing: blocks of the intermediate below it are zeros, errors below it are no errors.
inline constexpr double kNothing = 0x1p-100;

/// The nearest fp32 number where that is subnormal or zero; otherwise x itself, whose precision stays FP64's.
inline double with_fp32_underflow(double x) {
  return std::abs(x) < 0x1p-126 ? static_cast<double>(static_cast<float>(x)) : x;
}

}  // namespace blockmoe::verify
