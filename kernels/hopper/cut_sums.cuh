// cut_sums.cuh: tiles that several shares cut (split.h). Those with the first parts of K leave their accumulators in memory; the
// one with the last part adds them in a fixed order.
#pragma once

#include <cstdint>

#include "hopper/product_plan.cuh"
#include "ptx/barrier.h"
#include "ptx/thread_index.h"

namespace blockmoe::kernels::hopper {

// A share's: a warpgroup's accumulators, in the order of its threads' registers.
template <class S>
__device__ __forceinline__ float4* sums_of(const ProductParams& params, std::int32_t share) {
  const int thread = ptx::thread_index() - kCopyThreads;
  return params.sums + static_cast<std::int64_t>(share) * (S::kMaxWidth / 4 * kMultiplyThreads) + thread;
}

template <int kWidth, class S>
__device__ __forceinline__ void leave_sums(const ProductParams& params, std::int32_t share, int warpgroup,
                                           const float (&acc)[kBoxes][kWidth / 2]) {
  float4* const to = sums_of<S>(params, share);
#pragma unroll
  for (int i = 0; i < kWidth / 4; ++i) {
    const float* const four = &acc[i / (kWidth / 8)][i % (kWidth / 8) * 4];
    __stcg(to + i * kMultiplyThreads, make_float4(four[0], four[1], four[2], four[3]));
  }
  ptx::named_barrier_sync(kWarpgroupBarrier + warpgroup, ptx::kWarpgroupThreads);
  if (ptx::thread_index() % ptx::kWarpgroupThreads == 0) {
    ptx::store_release(params.flags + share * 2 + warpgroup, 1);
  }
}

// Waits for the flags of the tile's contributors, a lane each, then adds their sums, the nearest share's first. The loads of
// several are in flight at once where registers allow. Lanes leave the wait together: were each to loop by itself, the compiler would
// take the warp for divergent ever after, keep the ring's position in each lane, and move wgmma's descriptors over one by one: 2 to 3%
// of a large call.
template <int kWidth, class S>
__device__ __forceinline__ void add_sums(const ProductParams& params, const Work& work, int warpgroup,
                                         float (&acc)[kBoxes][kWidth / 2]) {
  constexpr int kAtOnce = kWidth <= 8 ? 4 : 1;
  constexpr int kFours = kWidth / 4;
  const auto from = [&](std::int32_t share, int i) { return sums_of<S>(params, share) + i * kMultiplyThreads; };
  const std::int32_t first = work.first_contributor, owner = work.share;
  for (std::int32_t nearest = owner - 1; nearest >= first; nearest -= 32) {
    const std::int32_t share = nearest - ptx::thread_index() % 32;
    while (!__all_sync(0xffffffffu, share < first || ptx::load_acquire(params.flags + share * 2 + warpgroup) != 0)) {
    }
  }
  __syncwarp();
  const auto add = [&](int i, const float4& four) {
    float* const sum = &acc[i / (kWidth / 8)][i % (kWidth / 8) * 4];
    sum[0] = __fadd_rn(sum[0], four.x);
    sum[1] = __fadd_rn(sum[1], four.y);
    sum[2] = __fadd_rn(sum[2], four.z);
    sum[3] = __fadd_rn(sum[3], four.w);
  };
#pragma unroll 1
  for (std::int32_t next = owner - 1; next >= first; next -= kAtOnce) {
    if constexpr (kAtOnce == 1) {
#pragma unroll
      for (int i = 0; i < kFours; ++i) add(i, __ldcg(from(next, i)));
    } else {
      float4 sums[kAtOnce][kFours];
#pragma unroll
      for (int c = 0; c < kAtOnce; ++c) {
#pragma unroll
        for (int i = 0; i < kFours; ++i) sums[c][i] = __ldcg(from(max(next - c, first), i));
      }
#pragma unroll
      for (int c = 0; c < kAtOnce; ++c) {
        if (next - c >= first) {
#pragma unroll
          for (int i = 0; i < kFours; ++i) add(i, sums[c][i]);
        }
      }
    }
  }
}

}  // namespace blockmoe::kernels::hopper
