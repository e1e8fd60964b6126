// barrier.h: barriers among some of a CTA's warps, and hints to the memory pipeline.
#pragma once

namespace blockmoe::ptx {

// Barrier `number` (1..15; 0 is __syncthreads) among `threads` threads, a multiple of 32.
__device__ __forceinline__ void named_barrier_sync(int number, int threads) {
  asm volatile("bar.sync %0, %1;\n" ::"r"(number), "r"(threads) : "memory");
}

}  // namespace blockmoe::ptx
