// requantise.h: how a row's 128 intermediate values become e4m3 codes and one scale.
//
//   amax  = largest |x| of the block, NaN ignored
//   scale = amax / 448, inverse = 448 / amax, code = e4m3(x * inverse)
//
// Below 2^-100 the codes are 0 and the scale is 1. A NaN keeps its place as a NaN code; an Inf makes the scale Inf and
// the block's codes 0 or NaN, so that the result is NaN or Inf.
//
// Of two terms (intermediate.h) the second is the residual, with a sixteenth of the scale: x * inverse is at most 16 from its code, 256
// in units of the second, which fits, and the difference is exact. Where the first code is NaN, so is the second.
#pragma once

#include "contract/e4m3.h"
#include "contract/host_device.h"

namespace blockmoe::contract {

struct BlockScale {
  float scale;    // code * scale gives back the value
  float inverse;  // value * inverse gives the code
};

// `largest` of the values seen so far and the next one.
BLOCKMOE_HD float amax_step(float largest, float value) {
#if defined(__CUDA_ARCH__)
  return fmaxf(largest, fabsf(value));  // of a number and NaN, the number
#else
  const float magnitude = float_of(bits_of(value) & 0x7fffffffu);
  return magnitude > largest ? magnitude : largest;  // false for NaN
#endif
}

BLOCKMOE_HD BlockScale block_scale(float amax) {
  constexpr float kSmallest = 7.8886090522101181e-31f;  // 2^-100
  if (amax < kSmallest) return {1.0f, 0.0f};
  return {rn::div(amax, kE4m3Max), rn::div(kE4m3Max, amax)};
}

BLOCKMOE_HD std::uint8_t requantise(float value, float inverse) {
  return e4m3_encode(rn::mul(value, inverse));
}

inline constexpr float kResidualSteps = 16.0f;

BLOCKMOE_HD float residual_scale(float scale) {
  return rn::div(scale, kResidualSteps);
}

// What `code`, which is requantise()'s, leaves over, in units of the second term.
BLOCKMOE_HD float residual_of(float value, float inverse, std::uint8_t code) {
  return rn::mul(rn::add(rn::mul(value, inverse), -e4m3_decode(code)), kResidualSteps);
}
BLOCKMOE_HD std::uint8_t requantise_residual(float value, float inverse, std::uint8_t code) {
  return e4m3_encode(residual_of(value, inverse, code));
}

#if defined(__CUDACC__)
// Two values at once, the first in the low byte.
__device__ __forceinline__ std::uint16_t requantise_pair(float first, float second, float inverse) {
  return __nv_cvt_float2_to_fp8x2(make_float2(rn::mul(first, inverse), rn::mul(second, inverse)), __NV_SATFINITE,
                                  __NV_E4M3);
}

__device__ __forceinline__ std::uint16_t requantise_residual_pair(float first, float second, float inverse,
                                                                  std::uint16_t codes) {
  const float2 both = make_float2(residual_of(first, inverse, static_cast<std::uint8_t>(codes)),
                                  residual_of(second, inverse, static_cast<std::uint8_t>(codes >> 8)));
  return __nv_cvt_float2_to_fp8x2(both, __NV_SATFINITE, __NV_E4M3);
}
#endif

}  // namespace blockmoe::contract
