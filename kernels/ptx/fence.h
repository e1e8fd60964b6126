// fence.h: order between ordinary shared-memory accesses and those of the tensor cores and the copy engine, and between
// CTAs through global memory.
#pragma once

#include <cstdint>

namespace blockmoe::ptx {

// Shared memory that this thread wrote by ordinary stores or by completed cp.async becomes readable by wgmma and bulk
// copies, and what it read by ordinary loads may be written by them. To stand before the barrier that hands the memory over. A
// barrier alone does not wait for loads on their way: beside another kernel's memory traffic they can come after the copy engine.
__device__ __forceinline__ void fence_proxy_async_shared() {
  asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory");
}

// A flag in global memory that hands over what the CTA wrote before it (after a barrier among the writers).
__device__ __forceinline__ void store_release(std::uint32_t* flag, std::uint32_t value) {
  asm volatile("st.release.gpu.global.u32 [%0], %1;\n" ::"l"(flag), "r"(value) : "memory");
}

// The same for a count.
__device__ __forceinline__ void add_release(std::uint32_t* count, std::uint32_t value) {
  asm volatile("red.release.gpu.global.add.u32 [%0], %1;\n" ::"l"(count), "r"(value) : "memory");
}

__device__ __forceinline__ std::uint32_t load_acquire(const std::uint32_t* flag) {
  std::uint32_t value;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];\n" : "=r"(value) : "l"(flag) : "memory");
  return value;
}

}  // namespace blockmoe::ptx
