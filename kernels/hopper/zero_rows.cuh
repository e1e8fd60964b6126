// zero_rows.cuh: output rows of tokens without a local pick, written while the products run.
//
//   pick_row [T', P]     -1 first: no pick
//   output   [T', H]     bf16 or f32: zeros there, nothing elsewhere
//
// Half of the tokens have no local pick where a router spreads 8 picks in 4 of 8 groups and one group is local. With many tokens the
// matrix unit decides how long the products take, and memory has time for these rows; combine would write them when nothing else
// is left to do. One lane asks the copy engine for a row a slot of the ring, from zeros in shared memory.
#pragma once

#include <cstdint>

#include "hopper/product_plan.cuh"
#include "ptx/bulk_copy.h"
#include "ptx/fence.h"

namespace blockmoe::kernels::hopper {

// By a whole warp, before the lane that writes: its zeros.
template <class S>
__device__ __forceinline__ void make_zeros(Smem<S>& smem) {
  for (int i = static_cast<int>(threadIdx.x) % 32 * 16; i < S::kZeroBytes; i += 32 * 16) {
    *reinterpret_cast<uint4*>(smem.zeros + i) = make_uint4(0, 0, 0, 0);
  }
  ptx::fence_proxy_async_shared();
  __syncwarp();
}

// One lane's way through the CTA's share of the chunk's tokens.
template <class S>
class ZeroRows {
 public:
  __device__ __forceinline__ ZeroRows(const Smem<S>& smem, const ChunkParams& chunk)
      : smem_(smem),
        params_(chunk.zeros),
        token_(chunk.chunk->token_begin + static_cast<std::int32_t>(blockIdx.x)),
        end_(chunk.zeros.wanted ? chunk.chunk->token_end : 0),
        first_row_(first_row_of(token_)) {}

  // The next token's row, if it has no pick. Whether the one behind has is asked for, and known a slot later.
  __device__ __forceinline__ void step() {
    if (token_ >= end_) return;
    if (first_row_ < 0) write(token_);
    token_ += static_cast<std::int32_t>(gridDim.x);
    first_row_ = first_row_of(token_);
  }

  // What is left, which is most where few tokens have a pick, and until all is written: the zeros must stay as long.
  __device__ __forceinline__ void finish() {
    constexpr int kAtOnce = 8;  // tokens asked for
    const auto step = static_cast<std::int32_t>(gridDim.x);
    for (; token_ < end_; token_ += kAtOnce * step) {
      std::int32_t first_row[kAtOnce];
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) first_row[i] = first_row_of(token_ + i * step);
#pragma unroll 1
      for (int i = 0; i < kAtOnce; ++i) {
        if (first_row[0] < 0) write(token_ + i * step);
#pragma unroll
        for (int next = 1; next < kAtOnce; ++next) first_row[next - 1] = first_row[next];
      }
    }
    ptx::cp_async_bulk_commit_group();
    ptx::cp_async_bulk_wait_all();
  }

 private:
  // The row of the token's first pick; negative where it has none. Beyond the share, no row to write.
  __device__ __forceinline__ std::int32_t first_row_of(std::int32_t token) const {
    return token < end_ ? __ldcg(params_.pick_row + static_cast<std::int64_t>(token) * params_.picks) : 0;
  }

  __device__ __forceinline__ void write(std::int32_t token) const {
    std::uint8_t* const row = params_.output + token * params_.pitch_bytes;
    for (std::int32_t done = 0; done < params_.row_bytes; done += S::kZeroBytes) {
      ptx::cp_async_bulk_store(row + done, smem_.zeros,
                               static_cast<std::uint32_t>(min(S::kZeroBytes, params_.row_bytes - done)));
    }
  }

  const Smem<S>& smem_;
  const ZeroRowParams& params_;
  std::int32_t token_;
  const std::int32_t end_;
  std::int32_t first_row_;  // of token_
};

}  // namespace blockmoe::kernels::hopper
