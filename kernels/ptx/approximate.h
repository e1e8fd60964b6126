// approximate.h: the special-function unit.
#pragma once

namespace blockmoe::ptx {

// 2^x, relative error up to 2^-22.5; results below 2^-126 become 0.
__device__ __forceinline__ float ex2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;\n" : "=f"(y) : "f"(x));
  return y;
}

// 1/x, error up to 1 ulp; results below 2^-126 become 0.
__device__ __forceinline__ float rcp_approx(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;\n" : "=f"(y) : "f"(x));
  return y;
}

}  // namespace blockmoe::ptx
