// prefetch.h: asks for global memory before it is read.
#pragma once

namespace blockmoe::ptx {

// The line that holds `global`, into L2.
__device__ __forceinline__ void prefetch_l2(const void* global) {
  asm volatile("prefetch.global.L2 [%0];\n" ::"l"(global));
}

}  // namespace blockmoe::ptx
