// short_rows.cuh: gemm2's rows in 16 bits a value (RowType::f16): fp16, and a power of two for every 16 columns of a row.
//
//   row_exponent  [R, H/16]
//
// b = the float exponent of the largest |value| of the 16 or of more columns with them, 15 at least; a value is code * 2^(b - 141).
//
// The largest value's code lies in [2^14, 2^15): 2^-11 of itself is the most that a value loses, until it is 2^-28 of the largest.
// NaN travels in its code and does not count as largest; beside an Inf, what is below 2^90 becomes 0.
#pragma once

#include <cuda_fp16.h>

#include <cstdint>

#include "stages/layout.h"

namespace blockmoe::kernels::stages {

// Of columns [column, column + 16) of a row. `hidden` is H.
BLOCKMOE_HD std::int64_t place_of_exponent(std::int64_t hidden, std::int64_t row, std::int64_t column) {
  return (row * hidden + column) / plan::kShortColumns;
}

__device__ __forceinline__ std::uint32_t short_exponent(float amax) {
  const std::uint32_t exponent = __float_as_uint(amax) >> 23;
  return exponent > 15u ? exponent : 15u;
}

// Of two rows, the first in the low half.
__device__ __forceinline__ std::uint32_t short_exponents(float first_amax, float second_amax) {
  return short_exponent(first_amax) | short_exponent(second_amax) << 16;
}

// 2^(141 - b) and 2^(b - 141).
__device__ __forceinline__ float to_short_scale(std::uint32_t exponent) {
  return __uint_as_float((268u - exponent) << 23);
}
__device__ __forceinline__ float from_short_scale(std::uint32_t exponent) {
  return __uint_as_float((exponent - 14u) << 23);
}

// Codes of two values, the first in the low half.
__device__ __forceinline__ std::uint32_t short_pair(float first, float second, float first_scale, float second_scale) {
  const __half2 pair = __floats2half2_rn(__fmul_rn(first, first_scale), __fmul_rn(second, second_scale));
  return *reinterpret_cast<const std::uint32_t*>(&pair);
}
__device__ __forceinline__ std::uint32_t short_pair(float first, float second, float scale) {
  return short_pair(first, second, scale, scale);
}

__device__ __forceinline__ float2 codes_of_short_pair(std::uint32_t pair) {
  return __half22float2(*reinterpret_cast<const __half2*>(&pair));
}

}  // namespace blockmoe::kernels::stages
