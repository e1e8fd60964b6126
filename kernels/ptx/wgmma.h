// wgmma.h: what surrounds the warpgroup's matrix instruction: fence, commit, wait, operand descriptors.
// The instruction itself is in wgmma_e4m3.h.
#pragma once

#include <cstdint>

#include "ptx/shared_address.h"
#include "ptx/wgmma_e4m3.h"

namespace blockmoe::ptx {

// Orders the warpgroup's register accesses before the wgmma that follow. Needed before the first one and whenever an
// accumulator was touched in between.
__device__ __forceinline__ void wgmma_fence() {
  asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory");
}

__device__ __forceinline__ void wgmma_commit_group() {
  asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory");
}

// Waits until at most kPending of the latest groups are still running.
template <int kPending>
__device__ __forceinline__ void wgmma_wait_group() {
  asm volatile("wgmma.wait_group.sync.aligned %0;\n" ::"n"(kPending) : "memory");
}

// Keeps the compiler from moving reads or writes of accumulators across the place where this stands.
template <int kCount>
__device__ __forceinline__ void pin_registers(float (&values)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(values[i])::"memory");
}

// Descriptor of a K-major e4m3 operand: rows of 128 bytes, stored with the 128-byte swizzle (16-byte chunk c of row r lies
// at chunk c ^ (r % 8)), 8 rows after 8 rows without gaps. `tile` is aligned to 1024 bytes; 32 further values of K are 32
// bytes, which is `kKStep` more in the descriptor.
__device__ __forceinline__ std::uint64_t k_major_descriptor(const void* tile) {
  constexpr std::uint64_t kSwizzle128 = std::uint64_t{1} << 62;
  constexpr std::uint64_t kBytesOfEightRows = 1024 >> 4;
  constexpr std::uint64_t kLeadingUnused = 1;
  return kSwizzle128 | (kBytesOfEightRows << 32) | (kLeadingUnused << 16) | ((shared_address(tile) & 0x3ffffu) >> 4);
}

inline constexpr int kKStep = 32 >> 4;  // descriptor units of one instruction's 32 values of K
inline constexpr int kKOfWgmma = 32;
inline constexpr int kRowsOfWgmma = 64;
inline constexpr int kWarpgroupThreads = 128;

}  // namespace blockmoe::ptx
