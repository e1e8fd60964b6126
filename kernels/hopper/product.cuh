// product.cuh: what gemm1 and gemm2 share: the swapped grouped product, from tile list to accumulators.
//
//   D [256, N] = W [256, K] * X [N, K]^T        for one expert; a tile
//
//   W   two boxes of 128 weight rows; wgmma's A. Streamed by TMA, 128 values of K at a time
//   X   N of the expert's rows, gathered by cp.async; wgmma's B. N follows the expert's own rows in steps of 8 (columns.cuh)
//
// The matrix unit accumulates 128 values of K; then acc = fma(partial, row scale * weight scale, acc) in fp32.
//
// Roles of the 384 threads:
//   warpgroup 0  warp 0 streams weights; warps 2 and 3 gather rows and scales; warp 1 hands over what they gathered
//   warpgroups 1 and 2 multiply: each has 64 rows of either box, so that both of a tile's accumulators are in one thread
//
// Cost of a K block: 32 KB of weights, which is 1600 cycles of an SM's share of the memory's 4.6 TB/s; 8 N cycles of wgmma, which
// reads 128 bytes of shared memory in 256 + 4 N of them; (N / 4) * 3 instructions of promotion a thread and box; 3 N / 8 + 55
// instructions of gathering in each of two warps. So weights decide up to about N = 96, then the matrix unit and shared memory.
//
// product_plan.cuh has the sizes and the shared memory, copy_operands.cuh and multiply.cuh the roles, cut_sums.cuh what CTAs
// that share a tile tell each other.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "hopper/copy_operands.cuh"
#include "hopper/cut_sums.cuh"
#include "hopper/multiply.cuh"
#include "hopper/multiply_straight.cuh"
#include "hopper/product_plan.cuh"
#include "ptx/griddepcontrol.h"
#include "ptx/mbarrier.h"
#include "ptx/setmaxnreg.h"
#include "ptx/thread_index.h"
#include "ptx/tma.h"

namespace blockmoe::kernels::hopper {

// Warpgroups 1 and 2: an item whose tile's rows fit kWidth. A functor, and inlined: wgmma must not stand in a function that is
// called. The item lies in shared memory: registers are short while the products run.
template <class Product, class S>
struct MultiplyAndFinish {
  Smem<S>& smem;
  RingConsumer<S::kSlots>& ring;
  const typename Product::Params& params;
  int warpgroup;
  const WorkReader& reader;

  template <int kWidth>
  __device__ __forceinline__ void run() const {
    constexpr bool kStraight = kWidth > S::kMostSwapped;
    const std::int32_t k_blocks = reader.work().k_end - reader.work().k_begin;
    float acc[kBoxes][kWidth / 2] = {};
    if constexpr (kStraight) {
      multiply_straight(smem, ring, warpgroup, k_blocks, acc);
    } else {
      Product::template multiply<kWidth>(smem, ring, warpgroup, k_blocks, acc);
    }
    const Work& work = reader.work();
    if (work.k_end < smem.split.k_blocks) {
      leave_sums<kWidth, S>(params.product, work.share, warpgroup, acc);
      return;
    }
    if (work.k_begin > 0) add_sums<kWidth, S>(params.product, work, warpgroup, acc);
    if constexpr (kStraight) {
      Product::finish_straight(smem, params, work.tile, warpgroup, acc);
    } else {
      Product::template finish<kWidth>(smem, params, work.tile, warpgroup, acc);
    }
  }
};

template <class Product, class S>
__device__ __forceinline__ void multiply_and_finish(Smem<S>& smem, const typename Product::Params& params) {
  const int warpgroup = (static_cast<int>(threadIdx.x) - kCopyThreads) / ptx::kWarpgroupThreads;
  RingConsumer<S::kSlots> ring(smem.ring);
  for (WorkReader reader(smem.queue); reader.next(); reader.release_by_warp()) {
    const MultiplyAndFinish<Product, S> task{smem, ring, params, warpgroup, reader};
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
__device__ __forceinline__ void share_out(Smem<S>& smem, const ProductParams& params, std::int32_t* tables) {
  const ColumnTable table{params.experts, params.weight_tiles,        S::kMaxWidth, S::kMostSwapped < S::kMaxWidth,
                          tables,         tables + params.experts + 1};
  table.build(params.expert_begin);
  __syncwarp();
  if (ptx::thread_index() % 32 != 0) return;
  smem.table = table;
  smem.row_base = __ldcg(&params.chunk->row_base);
  smem.split = make_split(table.tiles(), params.k_blocks, static_cast<std::int32_t>(gridDim.x), params.most_pieces,
                          params.cuts_leftover);
}

// A product's whole kernel: shared memory, barriers, roles.
template <class Product, class S>
__device__ __forceinline__ void run_product(const CUtensorMap& map, const typename Product::Params& params) {
  extern __shared__ __align__(1024) unsigned char memory[];
  auto& smem = *reinterpret_cast<Smem<S>*>(memory);
  auto* const tables = reinterpret_cast<std::int32_t*>(memory + sizeof(Smem<S>));
  const int warp = static_cast<int>(threadIdx.x) / 32;

  if (!params.product.first_chunk && params.product.chunk->rows == 0) {
    ptx::griddepcontrol_wait();
    return;
  }
  if (threadIdx.x == 0) {
    ptx::prefetch_tensormap(&map);
    for (std::uint64_t& barrier : smem.landed) ptx::mbarrier_init(&barrier, kGatherThreads);
    smem.ring.init(2, kMultiplyWarps);
    smem.queue.ring.init(1, kWorkReaders);
  }
  if (!Product::kTableBeforeWait) ptx::griddepcontrol_wait();
  if (warp == 1) share_out(smem, params.product, tables);
  __syncthreads();

  if (warp < kCopyThreads / 32) {
    ptx::setmaxnreg_decrease<S::kCopyRegisters>();
    if (warp == 0) {
      if (threadIdx.x == 0) stream_weights<Product>(smem, &map, params);
    } else if (warp == 1) {
      if (threadIdx.x == 32) hand_over_rows(smem);
    } else {
      if (Product::kTableBeforeWait) ptx::griddepcontrol_wait();
      gather_rows<Product>(smem, params);
    }
  } else {
    ptx::setmaxnreg_increase<S::kMultiplyRegisters>();
    if (Product::kTableBeforeWait) ptx::griddepcontrol_wait();
    multiply_and_finish<Product>(smem, params);
  }
}

}  // namespace blockmoe::kernels::hopper
