// min_max.h: minimum and maximum that give NaN where an operand is NaN.
#pragma once

#include <cmath>

namespace blockmoe::ptx {

inline float min_nan(float a, float b) {
  return a != a || b != b ? NAN : std::fmin(a, b);
}
inline float max_nan(float a, float b) {
  return a != a || b != b ? NAN : std::fmax(a, b);
}

}  // namespace blockmoe::ptx
