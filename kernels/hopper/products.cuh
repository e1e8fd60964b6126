// products.cuh: gemm1 and gemm2 of a chunk as one kernel, from the list of tiles to the last row.
//
//   D [256, N] = W [256, K] * X [N, K]^T        for one expert; a tile. Many rows: D^T = X * W^T (multiply_straight.cuh)
//
//   W   two boxes of 128 weight rows, streamed by TMA, 128 values of K at a time
//   X   N of the expert's rows, gathered by cp.async. N follows the expert's own rows (columns.cuh)
//
// The matrix unit accumulates 128 values of K, in gemm1 64 of them where there is time for it; then acc = fma(partial, row scale *
// weight scale, acc) in fp32.
//
// Roles of the 384 threads:
//   warpgroup 0  warp 0 takes work (split.h, work.cuh) and streams weights; warps 2 and 3 gather rows and scales; warp 1 hands over
//                what they gathered
//   warpgroups 1 and 2 multiply: each has 64 rows of either box, so that both of a tile's accumulators are in one thread; straight,
//                64 of the tile's rows and both boxes
//
// CTAs take gemm1's tiles, then gemm2's, whose rows wait until their expert's tiles of gemm1 are finished.
//
// Cost of a K block: 32 KB of weights, which is 1600 cycles of an SM's share of the memory's 4.6 TB/s; swapped 8 N cycles of wgmma,
// which reads 128 bytes of shared memory in 256 + 4 N of them, and (N / 4) * 3 instructions of promotion a thread and box;
// 3 N / 8 + 55 instructions of gathering in each of two warps. Straight 1024 cycles of wgmma, 1342 in a loop alone (docs/performance-log.md, section 13).
//
// product_plan.cuh has the sizes and the shared memory, copy_operands.cuh and multiply*.cuh the roles, cut_sums.cuh what CTAs
// that share a tile tell each other, zero_rows.cuh the output rows that no product has.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "hopper/copy_operands.cuh"
#include "hopper/cut_sums.cuh"
#include "hopper/multiply.cuh"
#include "hopper/multiply_exact.cuh"
#include "hopper/multiply_straight.cuh"
#include "hopper/params.cuh"
#include "ptx/fence.h"
#include "ptx/griddepcontrol.h"
#include "ptx/mbarrier.h"
#include "ptx/setmaxnreg.h"
#include "ptx/thread_index.h"
#include "ptx/tma.h"
#include "ptx/uniform.h"

namespace blockmoe::kernels::hopper {

// Warpgroups 1 and 2: an item whose tile's rows fit kWidth. A functor, and inlined: wgmma must not stand in a function that is
// called. The item lies in shared memory: registers are short while the products run.
template <class S>
struct MultiplyAndFinish {
  Smem<S>& smem;
  RingConsumer<S::kSlots>& ring;
  const Params& params;
  const WorkReader& reader;

  template <int kWidth>
  __device__ __forceinline__ void run() const {
    float acc[kBoxes][kWidth / 2] = {};
    multiply_item<kWidth>(warpgroup_of_thread(), acc);
    const int warpgroup = warpgroup_of_thread();  // again rather than kept
    const Work& work = reader.work();
    const bool is_gemm1 = work.product == Gemm1::kNumber;
    const ProductParams& product = is_gemm1 ? params.gemm1.product : params.gemm2.product;
    if (work.k_end < product.k_blocks) {
      leave_sums<kWidth, S>(product, work.share, warpgroup, acc);
      return;
    }
    if (work.k_begin > 0) add_sums<kWidth, S>(product, work, warpgroup, acc);
    if (is_gemm1) {
      finish<Gemm1, kWidth>(params.gemm1, work.tile, warpgroup, acc);
      __syncwarp();
      if (ptx::thread_index() % 32 == 0) ptx::add_release(params.chunk.finished + work.tile.columns.expert, 1);
    } else {
      finish<Gemm2, kWidth>(params.gemm2, work.tile, warpgroup, acc);
    }
  }

 private:
  template <int kWidth>
  static constexpr bool kStraight = kWidth > S::kMostSwapped;

  static __device__ __forceinline__ int warpgroup_of_thread() {
    return (ptx::thread_index() - kCopyThreads) / ptx::kWarpgroupThreads;
  }

  template <int kWidth>
  __device__ __forceinline__ void multiply_item(int warpgroup, float (&acc)[kBoxes][kWidth / 2]) const {
    const std::int32_t slots = reader.work().slots();
    // The requantisation takes its codes from gemm1's values: exact where there are few rows and time for it, in halves where
    // there is some.
    const bool is_gemm1 = reader.work().product == Gemm1::kNumber;
    if constexpr (S::kExactGemm1) {
      if (is_gemm1 && params.gemm1.product.exact) {
        multiply_exact<kWidth>(smem, ring, warpgroup, slots, acc);
        return;
      }
    }
    if constexpr (2 * kWidth <= S::kMostSwapped) {
      if (!is_gemm1 && params.gemm2.product.terms > reader.work().slots_a_block) {
        multiply<kWidth, 1, 2>(smem, ring, warpgroup, slots, acc);
        return;
      }
    }
    if (is_gemm1 && params.gemm1.product.in_halves) {
      multiply_parts<kWidth, 2>(warpgroup, slots, acc);
    } else {
      multiply_parts<kWidth, 1>(warpgroup, slots, acc);
    }
  }

  template <int kWidth, int kParts>
  __device__ __forceinline__ void multiply_parts(int warpgroup, std::int32_t slots,
                                                 float (&acc)[kBoxes][kWidth / 2]) const {
    if constexpr (kStraight<kWidth>) {
      multiply_straight<kParts>(smem, ring, warpgroup, slots, acc);
    } else {
      multiply<kWidth, kParts, 1>(smem, ring, warpgroup, slots, acc);
    }
  }

  template <class Product, int kWidth>
  __device__ __forceinline__ void finish(const typename Product::Params& product, const Tile& tile, int warpgroup,
                                         float (&acc)[kBoxes][kWidth / 2]) const {
    if constexpr (kStraight<kWidth>) {
      Product::finish_straight(smem, product, tile, warpgroup, acc);
    } else {
      Product::template finish<kWidth>(smem, product, tile, warpgroup, acc);
    }
  }
};

template <class S>
__device__ __forceinline__ void multiply_and_finish(Smem<S>& smem, const Params& params) {
  RingConsumer<S::kSlots> ring(smem.ring);
  for (WorkReader reader(smem.queue); reader.next(); reader.release_by_warp()) {
    const MultiplyAndFinish<S> task{smem, ring, params, reader};
    const std::int32_t rows = reader.work().tile.columns.rows;
    if constexpr (S::kMostSwapped < S::kMaxWidth) {
      if (rows > S::kMostSwapped) {
        task.template run<S::kMaxWidth>();
        continue;
      }
    }
    SwappedWidths<S>::with(rows, task);
  }
}

// Warp 1: the tiles of the chunk, and the parts that CTAs take.
template <class S>
__device__ __forceinline__ void share_out(Smem<S>& smem, const Params& params, std::int32_t* tables) {
  const ChunkParams& chunk = params.chunk;
  const ColumnTable table{chunk.experts, S::kMaxWidth, S::kMostSwapped < S::kMaxWidth, tables,
                          tables + chunk.experts + 1};
  table.build(chunk.expert_begin);
  __syncwarp();
  if (ptx::thread_index() % 32 != 0) return;
  smem.table = table;
  smem.row_base = __ldcg(&chunk.chunk->row_base);
  const auto split = [&](const ProductParams& product) {
    const std::int32_t tiles = product.wanted ? table.column_tiles() * product.weight_tiles : 0;
    return make_split(tiles, product.k_blocks, static_cast<std::int32_t>(gridDim.x), chunk.most_pieces,
                      chunk.cuts_leftover);
  };
  smem.split[0] = split(params.gemm1.product);
  smem.split[1] = split(params.gemm2.product);
}

// The whole kernel: shared memory, barriers, roles.
template <class S>
__device__ __forceinline__ void run_products(const CUtensorMap& w13, const CUtensorMap& w2, const Params& params) {
  extern __shared__ __align__(1024) unsigned char memory[];
  auto& smem = *reinterpret_cast<Smem<S>*>(memory);
  auto* const tables = reinterpret_cast<std::int32_t*>(memory + sizeof(Smem<S>));
  const int warp = ptx::uniform(static_cast<int>(threadIdx.x) / 32);

  if (!params.chunk.first_chunk && params.chunk.chunk->token_begin == params.chunk.chunk->token_end) {
    ptx::griddepcontrol_wait();
    return;
  }
  if (threadIdx.x == 0) {
    ptx::prefetch_tensormap(&w13);
    ptx::prefetch_tensormap(&w2);
    for (std::uint64_t& barrier : smem.landed) ptx::mbarrier_init(&barrier, kGatherThreads);
    smem.ring.init(2, kMultiplyWarps);
    smem.queue.ring.init(1, kWorkReaders);
  }
  ptx::griddepcontrol_wait();
  if (warp == 1) share_out(smem, params, tables);
  std::int32_t first_part = 0;
  if (threadIdx.x == 0) first_part = take_part(params.chunk);
  __syncthreads();

  if (warp < kCopyThreads / 32) {
    ptx::setmaxnreg_decrease<S::kCopyRegisters>();
    if (warp == 0) {
      if (threadIdx.x == 0) WeightStream<S>(smem, params).run(&w13, &w2, first_part);
    } else if (warp == 1) {
      if constexpr (S::kWritesZeros) make_zeros(smem);
      if (threadIdx.x == 32) hand_over_rows(smem, params.chunk);
    } else {
      gather_rows(smem, params);
    }
  } else {
    ptx::setmaxnreg_increase<S::kMultiplyRegisters>();
    multiply_and_finish(smem, params);
  }
}

}  // namespace blockmoe::kernels::hopper
