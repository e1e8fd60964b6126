// cuda_fp16.h: see cuda_runtime.h.
#pragma once

#include <cmath>

#include "cuda_runtime.h"

struct __half {
  std::uint16_t bits;
};
struct alignas(4) __half2 {
  __half x, y;
};

namespace device_on_host {

constexpr int kFractionBits = 10, kLeastExponent = -14;
constexpr std::uint16_t kInfinity = 0x7c00, kNan = 0x7fff;

inline float f16_decode(std::uint16_t bits) {
  const int exponent = bits >> kFractionBits & 31, fraction = bits & 1023;
  const float sign = (bits & 0x8000) != 0 ? -1.0F : 1.0F;
  if (exponent == 31) return fraction != 0 ? std::nanf("") : sign * HUGE_VALF;
  if (exponent == 0) return sign * std::ldexp(static_cast<float>(fraction), kLeastExponent - kFractionBits);
  return sign * std::ldexp(static_cast<float>(1024 + fraction), exponent - 15 - kFractionBits);
}

// Rounded to nearest, ties to even.
inline std::uint16_t f16_encode(float x) {
  if (std::isnan(x)) return kNan;
  const auto sign = static_cast<std::uint16_t>(std::signbit(x) ? 0x8000 : 0);
  if (std::isinf(x)) return sign | kInfinity;
  int exponent = 0;
  std::frexp(x, &exponent);
  exponent = std::max(exponent - 1, kLeastExponent);
  // A carry out of the fraction raises the exponent by itself, up to infinity.
  const auto steps = static_cast<int>(std::nearbyint(std::ldexp(std::fabs(x), kFractionBits - exponent)));
  const int bits = steps < 1024 ? steps : steps + ((exponent - kLeastExponent) << kFractionBits);
  return static_cast<std::uint16_t>(sign | std::min<int>(bits, kInfinity));
}

}  // namespace device_on_host

inline __half2 __floats2half2_rn(float x, float y) {
  return {{device_on_host::f16_encode(x)}, {device_on_host::f16_encode(y)}};
}
inline float2 __half22float2(__half2 x) {
  return {device_on_host::f16_decode(x.x.bits), device_on_host::f16_decode(x.y.bits)};
}
