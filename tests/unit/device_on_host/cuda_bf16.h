// cuda_bf16.h: see cuda_runtime.h.
#pragma once

#include "contract/e4m3.h"
#include "cuda_runtime.h"

struct __nv_bfloat16 {
  std::uint16_t bits;
};
struct alignas(4) __nv_bfloat162 {
  __nv_bfloat16 x, y;
};
inline float __bfloat162float(__nv_bfloat16 x) {
  return blockmoe::contract::bf16_decode(x.bits);
}
inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) {
  return {{blockmoe::contract::bf16_encode(x)}, {blockmoe::contract::bf16_encode(y)}};
}
inline float2 __bfloat1622float2(__nv_bfloat162 x) {
  return {__bfloat162float(x.x), __bfloat162float(x.y)};
}
