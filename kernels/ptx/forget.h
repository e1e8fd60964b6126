// forget.h: hides from the compiler what it knows of a value.
#pragma once

#include <cstdint>

namespace blockmoe::ptx {

// The value stays, what was known of it doesn't: what a loop computes from it is computed there, pass by pass, and takes no
// registers from one pass to the next.
__device__ __forceinline__ void forget(std::uint32_t& value) {
  asm volatile("" : "+r"(value));
}

}  // namespace blockmoe::ptx
