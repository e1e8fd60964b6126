// min_max.h: minimum and maximum that give NaN where an operand is NaN, where fminf() and fmaxf() give the other one.
#pragma once

namespace blockmoe::ptx {

__device__ __forceinline__ float min_nan(float a, float b) {
  float least;
  asm("min.NaN.f32 %0, %1, %2;\n" : "=f"(least) : "f"(a), "f"(b));
  return least;
}

__device__ __forceinline__ float max_nan(float a, float b) {
  float most;
  asm("max.NaN.f32 %0, %1, %2;\n" : "=f"(most) : "f"(a), "f"(b));
  return most;
}

}  // namespace blockmoe::ptx
