// multiply_exact.cuh: the products of a narrow tile without the FP8 matrix unit's rounding.
//
// wgmma on e4m3 keeps about 13 bits below the largest of the products it adds up: 1.2e-4 of a K block's sum. That is enough to
// move values of gemm1 over the border between two codes of the requantisation, a whole step of e4m3 each, and with few rows
// the output's error is then a matter of luck (docs/numerics.md). e4m3 is exact in fp16, and fp16 products are summed in
// fp32. Codes are widened in registers, on their way from the slot to mma.sync.
//
//   a warp has rows 16 w + g and 16 w + g + 8 of its warpgroup's 64, in both boxes, and all columns (g = lane / 4):
//   accumulators lie where wgmma would leave them
//   a lane reads bytes [32 t, 32 t + 32) of its weight rows and of row g of the columns (t = lane % 4): word j of them is
//   its share of the j-th mma's K. Which value of K stands where is the same for both operands, and does not matter else
//   of the 16-byte chunks 2 t and 2 t + 1 a quarter of a warp reads eight that lie in different banks
//
// Cost of a K block for an SM, N = 8: 640 conversions (two a cycle) and 128 mma (0.65 a cycle) in 1600 cycles of memory time.
#pragma once

#include <cstdint>

#include "hopper/multiply.cuh"
#include "ptx/fence.h"
#include "ptx/mma.h"
#include "ptx/thread_index.h"

namespace blockmoe::kernels::hopper {

__device__ __forceinline__ void read_words(std::uint32_t (&words)[4], const std::uint8_t* shared) {
  const uint4 four = *reinterpret_cast<const uint4*>(shared);
  words[0] = four.x, words[1] = four.y, words[2] = four.z, words[3] = four.w;
}

// multiply() of multiply.cuh, with the same accumulators.
template <int kWidth, class S>
__device__ __forceinline__ void multiply_exact(Smem<S>& smem, RingConsumer<S::kSlots>& ring, int warpgroup,
                                               int k_blocks, float (&acc)[kBoxes][kWidth / 2]) {
  constexpr int kTiles = kWidth / 8;
  constexpr int kAtOnce =
      kWidth <= 16 ? 2 : 1;  // boxes; two would spill at 24 columns, with one the columns are widened twice
  const int lane = ptx::thread_index() % 32, warp = ptx::thread_index() / 32 % 4;
  const int group = lane / 4, quad_lane = lane % 4;
  // Chunk 2 t of a row whose number is g modulo 8; chunk 2 t + 1 lies at the place that differs in the bit of 16.
  const int column_place = group * kBlock + ((2 * quad_lane) ^ group) * 16;
  const int weight_place = (warpgroup * ptx::kRowsOfWgmma + warp * 16) * kBlock + column_place;
#pragma unroll 1
  for (int k = 0; k < k_blocks; ++k) {
    const int number = ring.wait();
    const auto& slot = smem.slots[number];
    const auto& scales = smem.scales[number + static_cast<int>(ring.parity()) * S::kSlots];
    const float4* const column_scales = reinterpret_cast<const float4*>(scales.column) + quad_lane;
    const auto column = [&](int j) { return column_scales[4 * j]; };
#pragma unroll
    for (int first = 0; first < kBoxes; first += kAtOnce) {
      float partial[kAtOnce][kTiles][4] = {};
#pragma unroll 1  // half the code; unrolled, all reads would stand first and spill at 24 columns
      for (int half = 0; half < 2; ++half) {
        const int chunk = half * 16;
        std::uint32_t columns[kTiles][4], weights[kAtOnce][2][4];
#pragma unroll
        for (int tile = 0; tile < kTiles; ++tile) {
          read_words(columns[tile], slot.rows + tile * 8 * kBlock + (column_place ^ chunk));
        }
#pragma unroll
        for (int box = 0; box < kAtOnce; ++box) {
          const std::uint8_t* const row = slot.weights[first + box] + (weight_place ^ chunk);
          read_words(weights[box][0], row);
          read_words(weights[box][1], row + 8 * kBlock);
        }
        if (half == 1 && first + kAtOnce == kBoxes) {
          ptx::fence_proxy_async_shared();  // these are ordinary reads; the copy engine writes next
          __syncwarp();
          if (lane == 0) ring.release();
        }
#pragma unroll
        for (int word = 0; word < 4; ++word) {
          std::uint32_t a[kAtOnce][4];
#pragma unroll
          for (int box = 0; box < kAtOnce; ++box) {
            const ptx::HalfPairs row = ptx::widen_e4m3(weights[box][0][word]);
            const ptx::HalfPairs row_and_8 = ptx::widen_e4m3(weights[box][1][word]);
            a[box][0] = row.first;
            a[box][1] = row_and_8.first;
            a[box][2] = row.second;
            a[box][3] = row_and_8.second;
          }
#pragma unroll
          for (int tile = 0; tile < kTiles; ++tile) {
            const ptx::HalfPairs pairs = ptx::widen_e4m3(columns[tile][word]);
            const std::uint32_t b[2] = {pairs.first, pairs.second};
#pragma unroll
            for (int box = 0; box < kAtOnce; ++box) {
              ptx::mma_m16n8k16(partial[box][tile], a[box], b);
            }
          }
        }
      }
#pragma unroll
      for (int box = 0; box < kAtOnce; ++box) {
        promote<kWidth>(acc[first + box], reinterpret_cast<const float (&)[kWidth / 2]>(partial[box]), column,
                        scales.weight[first + box]);
      }
    }
    ring.advance();
  }
}

}  // namespace blockmoe::kernels::hopper
