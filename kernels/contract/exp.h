// exp.h: exp, sigmoid and SiLU in fp32, the same bits on hosts and devices.
#pragma once

#include "contract/host_device.h"

namespace blockmoe::contract {

// exp(x) for x <= 0; NaN gives NaN; below about -103.97 the result is 0. Error under 1 ulp where the result is normal.
//
// x = n ln2 + r with |r| <= ln2/2; exp(r) by its Taylor series to r^7 (remainder r^8/8! < 5.3e-9, under 0.1 ulp);
// then two exact-or-final multiplications by powers of two, so that denormal results round once.
BLOCKMOE_HD float exp_of_nonpositive(float x) {
  constexpr float kLog2E = 1.44269504f;
  constexpr float kLn2High = 0.693145751953125f;  // 15 significant bits: n * kLn2High is exact for |n| <= 256
  constexpr float kLn2Low = 1.42860677e-06f;
  constexpr float kRound = 12582912.0f;             // 1.5 * 2^23: adding it leaves round(x) in the low bits
  const float clamped = x < -104.0f ? -104.0f : x;  // keeps NaN
  const float shifted = rn::fma(clamped, kLog2E, kRound);
  const float n = rn::add(shifted, -kRound);
  float r = rn::fma(n, -kLn2High, clamped);
  r = rn::fma(n, -kLn2Low, r);
  float p = 1.0f / 5040.0f;
  p = rn::fma(p, r, 1.0f / 720.0f);
  p = rn::fma(p, r, 1.0f / 120.0f);
  p = rn::fma(p, r, 1.0f / 24.0f);
  p = rn::fma(p, r, 1.0f / 6.0f);
  p = rn::fma(p, r, 0.5f);
  p = rn::fma(p, r, 1.0f);
  p = rn::fma(p, r, 1.0f);
  const std::uint32_t minus_n = bits_of(kRound) - bits_of(shifted);  // 0..150
  const std::uint32_t half = minus_n >> 1;
  const float first = float_of((127u - half) << 23);
  const float second = float_of((127u - (minus_n - half)) << 23);
  return rn::mul(rn::mul(p, first), second);
}

// 1 / (1 + exp(-x)), by exp of -|x| so that nothing overflows. NaN gives NaN.
BLOCKMOE_HD float sigmoid(float x) {
  const float e = exp_of_nonpositive(x > 0.0f ? -x : x);
  return rn::div(x > 0.0f ? 1.0f : e, rn::add(1.0f, e));
}

// x / (1 + exp(-x)). -Inf gives NaN (0 * Inf), as the formula's limit is not taken.
BLOCKMOE_HD float silu(float x) {
  return rn::mul(x, sigmoid(x));
}

}  // namespace blockmoe::contract
