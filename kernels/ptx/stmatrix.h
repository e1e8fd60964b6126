// stmatrix.h: a warp's fragments of 8x8 matrices of 16-bit values to shared memory.
#pragma once

#include <cstdint>

#include "ptx/shared_address.h"

namespace blockmoe::ptx {

// Four matrices: lane l gives in `row` the address of 16 bytes, row l % 8 of matrix l / 8; fragment i holds, in lane l, row
// l / 4 and columns 2 (l % 4), 2 (l % 4) + 1 of matrix i.
__device__ __forceinline__ void stmatrix_x4(void* row, const std::uint32_t (&fragment)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};\n" ::"r"(shared_address(row)),
               "r"(fragment[0]), "r"(fragment[1]), "r"(fragment[2]), "r"(fragment[3])
               : "memory");
}

// Two matrices, of lanes 0..15, transposed: a fragment's rows become columns there.
__device__ __forceinline__ void stmatrix_x2_transposed(void* row, const std::uint32_t (&fragment)[2]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x2.trans.shared.b16 [%0], {%1, %2};\n" ::"r"(shared_address(row)),
               "r"(fragment[0]), "r"(fragment[1])
               : "memory");
}

}  // namespace blockmoe::ptx
