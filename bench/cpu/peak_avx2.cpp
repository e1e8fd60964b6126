#include <immintrin.h>

#include "peak.hpp"

namespace blockmoe::bench {

double peak_avx2(std::int64_t rounds) {
  __m256 a0, a1, a2, a3, a4, a5, a6, a7, a8, a9;
  a0 = a1 = a2 = a3 = a4 = a5 = a6 = a7 = a8 = a9 = _mm256_setzero_ps();
  const __m256 one = _mm256_set1_ps(1.0f);
  for (std::int64_t i = 0; i < rounds; ++i) {
    // asm, so that the compiler neither shortens nor hoists anything.
    __asm__ volatile(
        "vfmadd231ps %10, %10, %0\n\tvfmadd231ps %10, %10, %1\n\tvfmadd231ps %10, %10, %2\n\tvfmadd231ps %10, %10, "
        "%3\n\t"
        "vfmadd231ps %10, %10, %4\n\tvfmadd231ps %10, %10, %5\n\tvfmadd231ps %10, %10, %6\n\tvfmadd231ps %10, %10, "
        "%7\n\t"
        "vfmadd231ps %10, %10, %8\n\tvfmadd231ps %10, %10, %9\n\t"
        : "+x"(a0), "+x"(a1), "+x"(a2), "+x"(a3), "+x"(a4), "+x"(a5), "+x"(a6), "+x"(a7), "+x"(a8), "+x"(a9)
        : "x"(one));
  }
  return static_cast<double>(rounds) * 10 * 8 * 2;
}

}  // namespace blockmoe::bench
