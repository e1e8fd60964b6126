// sigmoid.cuh: contract::sigmoid's bits where |x| <= 64, in half the instructions and without a branch; and its value, less
// exactly, in a quarter.
//
// There the exponential is a normal number, so that its power of two is one integer addition. The division is the
// runtime's own (a Newton step on the reciprocal, then a correction of the quotient) without its second correction and
// its test for extreme operands. Over all such x this rounds correctly for any approximate reciprocal within 1 ulp, but
// for 1 / (2 - 2^-23), where the runtime's division needs the right one too. tests/gpu compares every float.
#pragma once

#include "contract/exp.h"
#include "ptx/approximate.h"

namespace blockmoe::kernels::stages {

inline constexpr float kShortSigmoidLimit = 64.0f;

__device__ __forceinline__ bool short_sigmoid_holds(float x) {
  return fabsf(x) <= kShortSigmoidLimit;
}  // NaN: false

// For x of which short_sigmoid_holds().
__device__ __forceinline__ float short_sigmoid(float x) {
  constexpr float kRound = 12582912.0f;  // constants and order of operations: contract/exp.h
  const float minus = -fabsf(x);
  const float shifted = __fmaf_rn(minus, 1.44269504f, kRound);
  const float n = __fadd_rn(shifted, -kRound);
  float r = __fmaf_rn(n, -0.693145751953125f, minus);
  r = __fmaf_rn(n, -1.42860677e-06f, r);
  float p = 1.0f / 5040.0f;
  p = __fmaf_rn(p, r, 1.0f / 720.0f);
  p = __fmaf_rn(p, r, 1.0f / 120.0f);
  p = __fmaf_rn(p, r, 1.0f / 24.0f);
  p = __fmaf_rn(p, r, 1.0f / 6.0f);
  p = __fmaf_rn(p, r, 0.5f);
  p = __fmaf_rn(p, r, 1.0f);
  p = __fmaf_rn(p, r, 1.0f);
  const float e = __uint_as_float(__float_as_uint(shifted) * (1u << 23) + __float_as_uint(p));
  const float sum = __fadd_rn(1.0f, e);
  const float top = x > 0.0f ? 1.0f : e;
  const float estimate = ptx::rcp_approx(sum);
  const float inverse = __fmaf_rn(estimate, __fmaf_rn(-sum, estimate, 1.0f), estimate);
  const float quotient = __fmul_rn(top, inverse);
  return __fmaf_rn(__fmaf_rn(-sum, quotient, top), inverse, quotient);
}

// The same from the special-function unit: for every x but NaN wrong by less than kApproximateSigmoidError, which tests/gpu
// measures; NaN gives NaN.
inline constexpr float kApproximateSigmoidError = 1.0f / (1 << 21);

__device__ __forceinline__ float approximate_sigmoid(float x) {
  return ptx::rcp_approx(1.0f + ptx::ex2_approx(-1.44269504f * x));
}

// contract::sigmoid, whatever x is.
__device__ __forceinline__ float sigmoid(float x) {
  return short_sigmoid_holds(x) ? short_sigmoid(x) : contract::sigmoid(x);
}

}  // namespace blockmoe::kernels::stages
