// zero_rows.cuh: output rows of tokens without a local pick, written while the products run.
//
//   pick_row [T', P]     -1 first: no pick
//   output   [T', H]     bf16: zeros there, nothing elsewhere
//
// Half of the tokens have no local pick where a router spreads 8 picks in 4 of 8 groups and one group is local. With many tokens the
// matrix unit decides how long the products take, and memory has time for these rows; combine would write them when nothing else
// is left to do. One lane asks the copy engine for a row a K block, from zeros in shared memory.
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
        end_(chunk.zeros.wanted ? chunk.chunk->token_end : 0) {
    look_up();
  }

  // The next token's row, if it has no pick. Whether the one behind has is asked for, and known a K block later.
  __device__ __forceinline__ void step() {
    if (token_ >= end_) return;
    if (first_row_ < 0) {
      auto* const row = reinterpret_cast<std::uint8_t*>(params_.output + token_ * params_.output_pitch);
      for (std::int32_t done = 0; done < params_.row_bytes; done += S::kZeroBytes) {
        ptx::cp_async_bulk_store(row + done, smem_.zeros,
                                 static_cast<std::uint32_t>(min(S::kZeroBytes, params_.row_bytes - done)));
      }
    }
    token_ += static_cast<std::int32_t>(gridDim.x);
    look_up();
  }

  // What is left, and until all is written: the zeros must stay as long.
  __device__ __forceinline__ void finish() {
    while (token_ < end_) step();
    ptx::cp_async_bulk_commit_group();
    ptx::cp_async_bulk_wait_all();
  }

 private:
  __device__ __forceinline__ void look_up() {
    if (token_ < end_) first_row_ = __ldcg(params_.pick_row + static_cast<std::int64_t>(token_) * params_.picks);
  }

  const Smem<S>& smem_;
  const ZeroRowParams& params_;
  std::int32_t token_;
  const std::int32_t end_;
  std::int32_t first_row_ = 0;  // of the token's picks, the first's row
};

}  // namespace blockmoe::kernels::hopper
