// multiply_straight.cuh: a multiplying warpgroup's K blocks where a tile has many rows: rows are wgmma's A, weights its B.
//
//   D [128, 256] = X [128, K] * W [256, K]^T      64 rows a warpgroup, the two boxes one after the other
//
// A thread then has two rows, and 128 values of K cost it two scales and a multiply-add a value; the swapped product's columns
// cost a scale and a multiplication a value more, and the reads of the scales compete with the matrix unit's.
//
// A comes from registers, filled once a K block for both boxes; the matrix unit would read it from shared memory for each of them. That
// saves a sixth of what it reads there, and half a percent of the time where power decides.
#pragma once

#include <cstdint>

#include "hopper/multiply.cuh"
#include "hopper/product_plan.cuh"
#include "ptx/ldmatrix.h"
#include "ptx/thread_index.h"
#include "ptx/wgmma.h"

namespace blockmoe::kernels::hopper {

template <int kParts, class S>
__device__ __forceinline__ void multiply_straight(Smem<S>& smem, RingConsumer<S::kSlots>& ring, int warpgroup,
                                                  int slots, float (&acc)[kBoxes][kBoxRows / 2]) {
  constexpr int kSteps = kBlock / ptx::kKOfWgmma, kStepsAPart = kSteps / kParts;
  const int thread = ptx::thread_index() % ptx::kWarpgroupThreads;
  const int lane = thread % 32;
  const int warp_row = warpgroup * ptx::kRowsOfWgmma + thread / 32 * 16;
  const int place = column_place(warp_row + lane / 4);  // row + 8 lies 2 behind
#pragma unroll 1
  for (int left = slots; left > 0; --left) {
    const int number = ring.wait();
    const auto& slot = smem.slots[number];
    const auto& scales = smem.scales[number + static_cast<int>(ring.parity()) * S::kSlots];
    // Of a step, lanes 0..15 give the warp's rows and their first 16 values of K, the others the next 16. Swizzled.
    const std::uint8_t* const row = slot.rows + (warp_row + lane % 16) * kBlock;
    std::uint32_t rows[kSteps][4];
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      ptx::ldmatrix_x4(rows[step], row + ((2 * step + lane / 16) ^ (lane % 8)) * 16);
    }
    const float row_scale[2] = {scales.column[place], scales.column[place + 2]};
#pragma unroll
    for (int box = 0; box < kBoxes; ++box) {
      const float weight_scale = scales.weight[box];
      const float scale[2] = {__fmul_rn(row_scale[0], weight_scale), __fmul_rn(row_scale[1], weight_scale)};
      const std::uint64_t weights = ptx::k_major_descriptor(slot.weights[box]);
      float partial[kBoxRows / 2];
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
        ptx::pin_registers(partial);
        ptx::wgmma_fence();
#pragma unroll
        for (int i = 0; i < kStepsAPart; ++i) {
          const int step = part * kStepsAPart + i;
          ptx::WgmmaE4m3FromRegisters<kBoxRows>::issue(partial, rows[step], weights + step * ptx::kKStep, i != 0);
        }
        ptx::wgmma_commit_group();
        ptx::wgmma_wait_group<0>();
        ptx::pin_registers(partial);
        if (box == kBoxes - 1 && part == kParts - 1) {
          // No fence for what ldmatrix read: wgmma had it, and rows are written by cp.async, not by the copy engine.
          __syncwarp();
          if (lane == 0) ring.release();
          ring.advance();
        }
#pragma unroll
        for (int i = 0; i < kBoxRows / 2; ++i) acc[box][i] = __fmaf_rn(partial[i], scale[i % 4 / 2], acc[box][i]);
      }
    }
  }
}

}  // namespace blockmoe::kernels::hopper
