// multiply.cuh: a multiplying warpgroup's K blocks on the FP8 matrix unit, from ring slots to fp32 accumulators. 128 values of K, or
// 64, are summed by the unit, then promoted: acc = fma(partial, column scale * weight scale, acc).
#pragma once

#include <cstdint>

#include "hopper/product_plan.cuh"
#include "ptx/wgmma.h"

namespace blockmoe::kernels::hopper {

// acc += partial * (column scale * weight scale), for one box. `column(j)` gives the scales of columns 16 j + 2 q, + 1, + 8
// and + 9 in lane q of a quad.
template <int kWidth, class Column>
__device__ __forceinline__ void promote(float (&acc)[kWidth / 2], const float (&partial)[kWidth / 2], Column&& column,
                                        float weight) {
#pragma unroll
  for (int j = 0; j < kWidth / 8; ++j) {
    const float4 four = column(j / 2);
    const float low = __fmul_rn(j % 2 == 0 ? four.x : four.z, weight);
    const float high = __fmul_rn(j % 2 == 0 ? four.y : four.w, weight);
    acc[4 * j] = __fmaf_rn(partial[4 * j], low, acc[4 * j]);
    acc[4 * j + 1] = __fmaf_rn(partial[4 * j + 1], high, acc[4 * j + 1]);
    acc[4 * j + 2] = __fmaf_rn(partial[4 * j + 2], low, acc[4 * j + 2]);
    acc[4 * j + 3] = __fmaf_rn(partial[4 * j + 3], high, acc[4 * j + 3]);
  }
}

// One of kParts equal parts of a K block, of 64 rows of `a` and kWidth rows of `b`.
template <int kWidth, int kParts>
__device__ __forceinline__ void multiply_part(float (&partial)[kWidth / 2], std::uint64_t a, std::uint64_t b,
                                              int part) {
  constexpr int kSteps = kBlock / ptx::kKOfWgmma / kParts;
#pragma unroll
  for (int i = 0; i < kSteps; ++i) {
    const int k = part * kSteps + i;
    ptx::WgmmaE4m3<kWidth>::issue(partial, a + k * ptx::kKStep, b + k * ptx::kKStep, i != 0);
  }
  ptx::wgmma_commit_group();
}

// One warpgroup: `k_blocks` K blocks of a swapped tile into its accumulators. Two partials are in flight at once, and the
// column scales are read once for both boxes: registers allow that up to 80 columns.
template <int kWidth, int kParts, class S>
__device__ __forceinline__ void multiply(Smem<S>& smem, RingConsumer<S::kSlots>& ring, int warpgroup, int k_blocks,
                                         float (&acc)[kBoxes][kWidth / 2]) {
  static_assert(kWidth <= 80, "two partials and two accumulators");
  constexpr int kUnits = kBoxes * kParts;  // of a box each
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll 1
  for (int k = 0; k < k_blocks; ++k) {
    const int number = ring.wait();
    const auto& slot = smem.slots[number];
    const auto& scales = smem.scales[number + static_cast<int>(ring.parity()) * S::kSlots];
    const std::uint64_t rows = ptx::k_major_descriptor(slot.rows);
    const std::uint64_t boxes[kBoxes] = {
        ptx::k_major_descriptor(slot.weights[0] + warpgroup * ptx::kRowsOfWgmma * kBlock),
        ptx::k_major_descriptor(slot.weights[1] + warpgroup * ptx::kRowsOfWgmma * kBlock)};
    const float4* const columns = reinterpret_cast<const float4*>(scales.column) + lane % 4;

    float partial[2][kWidth / 2];
    const auto issue = [&](int unit) {
      ptx::pin_registers(partial[unit % 2]);
      ptx::wgmma_fence();
      multiply_part<kWidth, kParts>(partial[unit % 2], boxes[unit / kParts], rows, unit % kParts);
    };
    issue(0);
    issue(1);
    float4 held[(kWidth + 15) / 16];
#pragma unroll
    for (int j = 0; j < (kWidth + 15) / 16; ++j) held[j] = columns[4 * j];
    const float2 weight = *reinterpret_cast<const float2*>(scales.weight);
    const auto column = [&](int j) { return held[j]; };
#pragma unroll
    for (int unit = 0; unit < kUnits; ++unit) {
      if (unit + 1 < kUnits) {
        ptx::wgmma_wait_group<1>();
      } else {
        ptx::wgmma_wait_group<0>();
      }
      ptx::pin_registers(partial[unit % 2]);
      if (unit + 1 == kUnits) {
        __syncwarp();
        if (lane == 0) ring.release();
        ring.advance();
      }
      promote<kWidth>(acc[unit / kParts], partial[unit % 2], column, unit / kParts == 0 ? weight.x : weight.y);
      if (unit + 2 < kUnits) issue(unit + 2);
    }
  }
}

}  // namespace blockmoe::kernels::hopper
