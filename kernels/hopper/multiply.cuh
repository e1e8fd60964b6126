// multiply.cuh: a multiplying warpgroup's K blocks on the FP8 matrix unit, from ring slots to fp32 accumulators. 128 values of K, or
// 64, are summed by the unit, then promoted: acc = fma(partial, column scale * weight scale, acc).
#pragma once

#include <cstdint>

#include "hopper/product_plan.cuh"
#include "ptx/wgmma.h"

namespace blockmoe::kernels::hopper {

// acc += partial * (column scale * weight scale), for one box. `column(j)` gives the scales of columns 16 j + 2 q, + 1, + 8
// and + 9 in lane q of a quad. With two terms, column kWidth + n of the partial is the second term of column n.
template <int kWidth, int kTerms = 1, class Column>
__device__ __forceinline__ void promote(float (&acc)[kWidth / 2], const float (&partial)[kTerms * kWidth / 2],
                                        Column&& column, float weight) {
#pragma unroll
  for (int j = 0; j < kTerms * kWidth / 8; ++j) {
    const float4 four = column(j / 2);
    const float low = __fmul_rn(j % 2 == 0 ? four.x : four.z, weight);
    const float high = __fmul_rn(j % 2 == 0 ? four.y : four.w, weight);
    float* const sum = acc + 4 * (j % (kWidth / 8));
    sum[0] = __fmaf_rn(partial[4 * j], low, sum[0]);
    sum[1] = __fmaf_rn(partial[4 * j + 1], high, sum[1]);
    sum[2] = __fmaf_rn(partial[4 * j + 2], low, sum[2]);
    sum[3] = __fmaf_rn(partial[4 * j + 3], high, sum[3]);
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

// One warpgroup: `slots` slots of a swapped tile into its accumulators, each a K block of kTerms terms. Two partials are in flight at once, and the
// column scales are read once for both boxes: registers allow that up to 80 columns. kTerms: of a value, that a slot has.
template <int kWidth, int kParts, int kTerms, class S>
__device__ __forceinline__ void multiply(Smem<S>& smem, RingConsumer<S::kSlots>& ring, int warpgroup, int slots,
                                         float (&acc)[kBoxes][kWidth / 2]) {
  constexpr int kColumns = kTerms * kWidth;
  static_assert(kColumns <= 80, "two partials and two accumulators");
  constexpr int kUnits = kBoxes * kParts;  // of a box each
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll 1
  for (int left = slots; left > 0; --left) {
    const int number = ring.wait();
    const auto& slot = smem.slots[number];
    const auto& scales = smem.scales[number + static_cast<int>(ring.parity()) * S::kSlots];
    const std::uint64_t rows = ptx::k_major_descriptor(slot.rows);
    const std::uint64_t boxes[kBoxes] = {
        ptx::k_major_descriptor(slot.weights[0] + warpgroup * ptx::kRowsOfWgmma * kBlock),
        ptx::k_major_descriptor(slot.weights[1] + warpgroup * ptx::kRowsOfWgmma * kBlock)};
    const float4* const columns = reinterpret_cast<const float4*>(scales.column) + lane % 4;

    float partial[2][kColumns / 2];
    const auto issue = [&](int unit) {
      ptx::pin_registers(partial[unit % 2]);
      ptx::wgmma_fence();
      multiply_part<kColumns, kParts>(partial[unit % 2], boxes[unit / kParts], rows, unit % kParts);
    };
    issue(0);
    issue(1);
    float4 held[(kColumns + 15) / 16];
#pragma unroll
    for (int j = 0; j < (kColumns + 15) / 16; ++j) held[j] = columns[4 * j];
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
      promote<kWidth, kTerms>(acc[unit / kParts], partial[unit % 2], column, unit / kParts == 0 ? weight.x : weight.y);
      if (unit + 2 < kUnits) issue(unit + 2);
    }
  }
}

}  // namespace blockmoe::kernels::hopper
