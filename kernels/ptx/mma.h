// mma.h: the tensor cores' warp-wide product of fp16 with fp32 sums, and e4m3 made fp16. sm_80 and later.
#pragma once

#include <cstdint>

namespace blockmoe::ptx {

// mma.sync.m16n8k16: d[16, 8] = a[16, 16] b[16, 8] + c[16, 8]; with g = lane / 4, t = lane % 4 a lane holds
//   a[0] (g, 2t..2t+1)  a[1] (g + 8, 2t..)  a[2] (g, 2t + 8..)  a[3] (g + 8, 2t + 8..)    two fp16 each
//   b[0] (2t..2t+1, g)  b[1] (2t + 8.., g)
//   c, d: [0] (g, 2t) [1] (g, 2t + 1) [2] (g + 8, 2t) [3] (g + 8, 2t + 1)
__device__ __forceinline__ void mma_m16n8k16(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// The same with c = 0.
__device__ __forceinline__ void mma_m16n8k16_from_zero(float (&d)[4], const std::uint32_t (&a)[4],
                                                       const std::uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %10, "
      "%10, %10};\n"
      : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(0.0f));
}

struct HalfPairs {
  std::uint32_t first;   // two fp16
  std::uint32_t second;  // two fp16
};

// Four e4m3 codes as fp16, exactly; NaN stays NaN. Which code lands where differs between architectures, so use the
// result only where every operand of a sum goes through here.
__device__ __forceinline__ HalfPairs widen_e4m3(std::uint32_t codes) {
  HalfPairs wide;
#if __CUDA_ARCH__ >= 890
  asm("{\n"
      ".reg .b16 low, high;\n"
      "mov.b32 {low, high}, %2;\n"
      "cvt.rn.f16x2.e4m3x2 %0, low;\n"
      "cvt.rn.f16x2.e4m3x2 %1, high;\n"
      "}\n"
      : "=r"(wide.first), "=r"(wide.second)
      : "r"(codes));
#else
  // S EEEE MMM becomes S N EEEE MMM 0000000, which is the value times 2^-8 (subnormals too), N = 1 for NaN alone: then
  // the exponent is 1 1111 and the mantissa not 0. A product with 256 sets the rest right.
  constexpr std::uint32_t kField = 0x7f807f80u;  // N EEEE MMM of both halves
  constexpr std::uint32_t kSign = 0x80008000u;
  const std::uint32_t magnitude = codes & 0x7f7f7f7fu;
  const std::uint32_t with_nan = ((magnitude + 0x01010101u) & 0x80808080u) | magnitude;
  const std::uint32_t odd = ((with_nan >> 1) & kField) | (codes & kSign);
  const std::uint32_t even = ((with_nan << 7) & kField) | ((codes << 8) & kSign);
  constexpr std::uint32_t k256 = 0x5c005c00u;
  asm("mul.rn.f16x2 %0, %1, %2;\n" : "=r"(wide.first) : "r"(even), "r"(k256));
  asm("mul.rn.f16x2 %0, %1, %2;\n" : "=r"(wide.second) : "r"(odd), "r"(k256));
#endif
  return wide;
}

}  // namespace blockmoe::ptx
