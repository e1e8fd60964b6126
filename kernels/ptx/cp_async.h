// cp_async.h: copies from global to shared memory that run while the thread goes on (sm_80 and later).
#pragma once

#include <cstdint>

#include "ptx/shared_address.h"

namespace blockmoe::ptx {

// 16 bytes, both sides aligned to 16, past L1.
__device__ __forceinline__ void cp_async_16(void* shared, const void* global) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;\n" ::"r"(shared_address(shared)), "l"(global) : "memory");
}

// 4 bytes, both sides aligned to 4.
__device__ __forceinline__ void cp_async_4(void* shared, const void* global) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;\n" ::"r"(shared_address(shared)), "l"(global) : "memory");
}

// Arrives at an mbarrier in shared memory once all of this thread's earlier copies have landed; counts as one of the arrivals
// the barrier was initialised with.
__device__ __forceinline__ void cp_async_mbarrier_arrive(std::uint64_t* barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];\n" ::"r"(shared_address(barrier)) : "memory");
}

// Closes the group of this thread's copies since the last commit; a group may be empty.
__device__ __forceinline__ void cp_async_commit() {
  asm volatile("cp.async.commit_group;\n" ::: "memory");
}

// Waits until at most kPending of this thread's latest groups are in flight.
template <int kPending>
__device__ __forceinline__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(kPending) : "memory");
}

}  // namespace blockmoe::ptx
