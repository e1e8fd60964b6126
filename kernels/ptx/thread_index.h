// thread_index.h: threadIdx.x and blockIdx.x, read anew each time. What is derived from them can't be kept across a loop that
// has no register to spare.
#pragma once

namespace blockmoe::ptx {

__device__ __forceinline__ int thread_index() {
  int index;
  asm volatile("mov.u32 %0, %%tid.x;\n" : "=r"(index));
  return index;
}

__device__ __forceinline__ int block_index() {
  int index;
  asm volatile("mov.u32 %0, %%ctaid.x;\n" : "=r"(index));
  return index;
}

}  // namespace blockmoe::ptx
