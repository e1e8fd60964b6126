// bulk_copy.h: contiguous bytes from global to shared memory by the copy engine, without a tensor map.
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

}  // namespace blockmoe::ptx
