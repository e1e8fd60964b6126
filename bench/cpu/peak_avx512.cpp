#include <immintrin.h>

#include "peak.hpp"

namespace blockmoe::bench {

double peak_avx512_bf16(std::int64_t rounds) {
  __m512 a0, a1, a2, a3, a4, a5, a6, a7, a8, a9;
  a0 = a1 = a2 = a3 = a4 = a5 = a6 = a7 = a8 = a9 = _mm512_setzero_ps();
  const __m512i ones = _mm512_set1_epi32(0x3f803f80);
  for (std::int64_t i = 0; i < rounds; ++i) {
    // asm, so that the compiler neither shortens nor hoists anything.
    __asm__ volatile(
        "vdpbf16ps %10, %10, %0\n\tvdpbf16ps %10, %10, %1\n\tvdpbf16ps %10, %10, %2\n\tvdpbf16ps %10, %10, %3\n\t"
        "vdpbf16ps %10, %10, %4\n\tvdpbf16ps %10, %10, %5\n\tvdpbf16ps %10, %10, %6\n\tvdpbf16ps %10, %10, %7\n\t"
        "vdpbf16ps %10, %10, %8\n\tvdpbf16ps %10, %10, %9\n\t"
        : "+v"(a0), "+v"(a1), "+v"(a2), "+v"(a3), "+v"(a4), "+v"(a5), "+v"(a6), "+v"(a7), "+v"(a8), "+v"(a9)
        : "v"(ones));
  }
  return static_cast<double>(rounds) * 10 * 32 * 2;
}

}  // namespace blockmoe::bench
