// peak.hpp: loops of nothing but the instruction that a path multiplies with, on operands in registers.
#pragma once

#include <cstdint>

namespace blockmoe::bench {

/// Runs `rounds` rounds on this thread; returns the floating-point operations done (a multiplication and an addition each).
#if defined(__x86_64__)
double peak_avx2(std::int64_t rounds);
double peak_avx512_bf16(std::int64_t rounds);
double peak_amx(std::int64_t rounds);
#endif

}  // namespace blockmoe::bench
