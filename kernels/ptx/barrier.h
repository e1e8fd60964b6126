// barrier.h: barriers among some of a CTA's warps.
#pragma once

namespace blockmoe::ptx {

// Barrier `number` (1..15; 0 is __syncthreads) among `threads` threads, a multiple of 32.
__device__ __forceinline__ void named_barrier_sync(int number, int threads) {
  asm volatile("bar.sync %0, %1;\n" ::"r"(number), "r"(threads) : "memory");
}

// Counts as `threads` threads' share of the barrier does, without waiting for the others.
__device__ __forceinline__ void named_barrier_arrive(int number, int threads) {
  asm volatile("bar.arrive %0, %1;\n" ::"r"(number), "r"(threads) : "memory");
}

}  // namespace blockmoe::ptx
