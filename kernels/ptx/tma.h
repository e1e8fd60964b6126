// tma.h: the bulk tensor copy engine: boxes of a 2-D tensor from global to shared memory.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "ptx/shared_address.h"

namespace blockmoe::ptx {

__device__ __forceinline__ void prefetch_tensormap(const CUtensorMap* map) {
  asm volatile("prefetch.tensormap [%0];\n" ::"l"(map) : "memory");
}

// Weights pass through L2 once: the lines they take are the first to go.
__device__ __forceinline__ std::uint64_t l2_evict_first() {
  std::uint64_t policy;
  asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;\n" : "=l"(policy));
  return policy;
}

// Lines that several CTAs will read again soon.
__device__ __forceinline__ std::uint64_t l2_evict_last() {
  std::uint64_t policy;
  asm volatile("createpolicy.fractional.L2::evict_last.b64 %0, 1.0;\n" : "=l"(policy));
  return policy;
}

__device__ __forceinline__ std::uint64_t l2_evict_normal() {
  std::uint64_t policy;
  asm volatile("createpolicy.fractional.L2::evict_normal.b64 %0, 1.0;\n" : "=l"(policy));
  return policy;
}

// Copies the map's box at (column, row), in elements, to `destination` (aligned to 128 bytes, with the 128-byte swizzle to
// 1024); the bytes complete on `barrier`, zeros standing for what lies outside the tensor.
__device__ __forceinline__ void cp_async_bulk_tensor_2d(void* destination, const CUtensorMap* map, std::int32_t column,
                                                        std::int32_t row, std::uint64_t* barrier,
                                                        std::uint64_t policy) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1, {%2, %3}], [%4], %5;\n" ::"r"(shared_address(destination)),
      "l"(map), "r"(column), "r"(row), "r"(shared_address(barrier)), "l"(policy)
      : "memory");
}

// The same to each CTA of the cluster whose bit is set in `ranks`: at the same offset in its shared memory, completing on
// the barrier at the same offset.
__device__ __forceinline__ void cp_async_bulk_tensor_2d_multicast(void* destination, const CUtensorMap* map,
                                                                  std::int32_t column, std::int32_t row,
                                                                  std::uint64_t* barrier, std::uint16_t ranks,
                                                                  std::uint64_t policy) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster.L2::cache_hint "
      "[%0], [%1, {%2, %3}], [%4], %5, %6;\n" ::"r"(shared_address(destination)),
      "l"(map), "r"(column), "r"(row), "r"(shared_address(barrier)), "h"(ranks), "l"(policy)
      : "memory");
}

}  // namespace blockmoe::ptx
