// ldmatrix.h: a warp's fragments of 8x8 matrices of 16-bit values, or of 8 x 16 bytes, from shared memory.
#pragma once

#include <cstdint>

#include "ptx/shared_address.h"

namespace blockmoe::ptx {

// Four matrices: lane l gives in `row` the address of 16 bytes, row l % 8 of matrix l / 8; fragment i holds, in lane l, bytes
// 4 (l % 4) .. + 3 of row l / 4 of matrix i.
__device__ __forceinline__ void ldmatrix_x4(std::uint32_t (&fragment)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(fragment[0]), "=r"(fragment[1]), "=r"(fragment[2]), "=r"(fragment[3])
               : "r"(shared_address(row))
               : "memory");
}

}  // namespace blockmoe::ptx
