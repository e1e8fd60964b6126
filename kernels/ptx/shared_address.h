// shared_address.h: a pointer into shared memory as the 32-bit address that PTX takes.
#pragma once

#include <cstdint>

namespace blockmoe::ptx {

__device__ __forceinline__ std::uint32_t shared_address(const void* pointer) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(pointer));
}

}  // namespace blockmoe::ptx
