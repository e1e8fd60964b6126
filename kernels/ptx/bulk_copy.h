// bulk_copy.h: contiguous bytes between global and shared memory by the copy engine, without a tensor map.
#pragma once

#include <cstdint>

#include "ptx/shared_address.h"

namespace blockmoe::ptx {

// Copies `bytes` (a multiple of 16, both ends aligned to 16); they complete on `barrier`.
__device__ __forceinline__ void cp_async_bulk(void* destination, const void* source, std::uint32_t bytes,
                                              std::uint64_t* barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];\n" ::"r"(
                   shared_address(destination)),
               "l"(source), "r"(bytes), "r"(shared_address(barrier))
               : "memory");
}

// The other way, with the same rules for `bytes` and both ends. Part of the thread's next group.
__device__ __forceinline__ void cp_async_bulk_store(void* destination, const void* source, std::uint32_t bytes) {
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;\n" ::"l"(destination),
               "r"(shared_address(source)), "r"(bytes)
               : "memory");
}

__device__ __forceinline__ void cp_async_bulk_commit_group() {
  asm volatile("cp.async.bulk.commit_group;\n" ::: "memory");
}

// Until all of the thread's groups are complete.
__device__ __forceinline__ void cp_async_bulk_wait_all() {
  asm volatile("cp.async.bulk.wait_group 0;\n" ::: "memory");
}

}  // namespace blockmoe::ptx
