// silu.cuh: x / (1 + exp(-x)) on the special-function unit.
#pragma once

#include "ptx/approximate.h"

namespace blockmoe::kernels::hopper {

// Within 5 ulp for x >= -87, within 1e-36 below (checked for every float by tests/gpu). NaN gives NaN, as does -Inf (0 * Inf),
// like contract::silu.
//
// The argument of 2^y, -x log2(e), is carried in two floats: rounded to one, y = 125 would cost 90 ulp. A quarter of the
// divisor keeps the reciprocal of all that matters a normal number; where 2^y is Inf it is 0.
__device__ __forceinline__ float silu(float x) {
  constexpr float kLog2E = 1.44269502f;
  constexpr float kLog2ELow = 1.92596303e-8f;
  constexpr float kLn2 = 0.693147182f;
  constexpr float kLowest = -126.0f;  // so low, 2^y is Inf; the low part of y stays small
  constexpr float kHighest = 100.0f;  // above, the result is x
  const float t = fminf(fmaxf(x, kLowest), kHighest);
  const float y = __fmul_rn(t, -kLog2E);
  const float low = __fmaf_rn(t, -kLog2ELow, __fmaf_rn(t, -kLog2E, -y));
  const float quarter = __fmaf_rn(low, 0.25f * kLn2, 0.25f);  // of 2^low
  const float divisor = __fmaf_rn(ptx::ex2_approx(y), quarter, 0.25f);
  return __fmul_rn(__fmul_rn(x, 0.25f), ptx::rcp_approx(divisor));
}

}  // namespace blockmoe::kernels::hopper
