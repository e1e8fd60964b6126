// copy_operands.cuh: the copying warpgroup of the grouped products (products.cuh). It fills the ring:
//
//   slot.weights  two boxes of 128 weight rows x 128 of K, by TMA                               warp 0
//   slot.rows     the tile's rows x 128 of K, by cp.async, and their scales and the boxes'      warps 2 and 3, handed over by warp 1
#pragma once

#include <cuda.h>

#include <cstdint>

#include "checked.h"
#include "hopper/params.cuh"
#include "hopper/product_plan.cuh"
#include "hopper/zero_rows.cuh"
#include "plan/sizes.h"
#include "ptx/cp_async.h"
#include "ptx/fence.h"
#include "ptx/forget.h"
#include "ptx/griddepcontrol.h"
#include "ptx/thread_index.h"
#include "ptx/tma.h"

namespace blockmoe::kernels::hopper {

// The number of a part that nobody has, in rising order.
__device__ __forceinline__ std::int32_t take_part(const ChunkParams& chunk) {
  return static_cast<std::int32_t>(atomicAdd(chunk.taken, 1u));
}

// Warp 0, one lane: takes the CTA's parts, gemm1's first, tells the others, and copies both boxes of each K block. The next kernel
// may start when the CTA's last weights are on their way, or at once where there is room for it. An expert's only
// column tile lets its weights go from L2; where there are several, which run side by side a few K blocks apart, whichever comes last
// finds them there.
template <class S>
class WeightStream {
 public:
  __device__ __forceinline__ WeightStream(Smem<S>& smem, const Params& params)
      : smem_(smem), params_(params), ring_(smem.ring), queue_(smem.queue.ring) {}

  // `number`: of the CTA's first part.
  __device__ __forceinline__ void run(const CUtensorMap* w13, const CUtensorMap* w2, std::int32_t number) {
    const std::int32_t gemm1_parts = smem_.split[0].parts();
    const std::int32_t parts = gemm1_parts + smem_.split[1].parts();
    if (S::kLeavesRoom) ptx::griddepcontrol_launch_dependents();
    while (number < parts) {
      if (number < gemm1_parts) {
        number = stream<Gemm1>(w13, params_.gemm1, number);
      } else {
        number = stream<Gemm2>(w2, params_.gemm2, number - gemm1_parts);
      }
    }
    if (!S::kLeavesRoom) ptx::griddepcontrol_launch_dependents();
    smem_.queue.work[queue_.acquire()].k_end = 0;
    queue_.publish();
  }

 private:
  // One part; gives the number of the next.
  template <class Product>
  __device__ __forceinline__ std::int32_t stream(const CUtensorMap* map, const typename Product::Params& params,
                                                 std::int32_t number) {
    const Split& split = smem_.split[Product::kNumber];
    const Part part = part_of(split, number);
    std::int32_t next = 0;
    for (std::int32_t i = 0; i < part.items; ++i) {
      const Item item = item_of(split, part, i);
      const Tile tile = smem_.table.find(item.tile, params.product.weight_tiles);
      const std::int32_t slots_a_block =
          params.product.terms > 1 && !terms_share_slot<S>(tile.columns.rows) ? params.product.terms : 1;
      smem_.queue.work[queue_.acquire()] = {Product::kNumber,       tile,         item.k_begin, item.k_end, part.share,
                                            part.first_contributor, slots_a_block};
      queue_.publish();
      queue_.advance();
      const BoxRows boxes = Product::box_rows(params, tile);
      const std::uint64_t policy = smem_.table.is_only(tile.columns) ? only_reader_ : one_of_several_;
      const bool last = i + 1 == part.items;
      const std::int32_t ask = last ? max(item.k_begin, item.k_end - kBlocksToAsk) : -1;
      for (std::int32_t k = item.k_begin; k < item.k_end; ++k) {
        if (k == ask) next = take_part(params_.chunk);
        for (std::int32_t left = slots_a_block; left > 0; --left) {
          auto& slot = smem_.slots[ring_.acquire()];
          ring_.announce(kBoxes * kBoxBytes);
          for (int box = 0; box < kBoxes; ++box) {
            BLOCKMOE_CHECK_OR_TRAP(boxes.row[box] >= 0 && boxes.row[box] / (kBoxes * kBoxRows) <
                                                              params_.chunk.experts * params.product.weight_tiles);
            ptx::cp_async_bulk_tensor_2d(slot.weights[box], map, k * kBlock, boxes.row[box], ring_.barrier(),
                                         left > 1 ? one_of_several_ : policy);
          }
          ring_.advance();
        }
      }
    }
    return next;
  }

  Smem<S>& smem_;
  const Params& params_;
  RingProducer<S::kSlots> ring_;
  RingProducer<kQueued> queue_;
  const std::uint64_t only_reader_ = ptx::l2_evict_first(), one_of_several_ = ptx::l2_evict_normal();
};

// Warps 2 and 3, one item's rows and scales. They arrive at `landed` when the copies have, so that as many K blocks are on
// their way as the ring has slots.
//
// A thread copies the same 16 bytes of every eighth row. Where its rows begin stays in registers, so that 16 bytes cost two additions and
// a copy, and nothing is looked up or tested in a K block. (A multiplication instead, of a row's number, waits behind the promotions for
// its unit: 3% of a large call.) Columns beyond the rows repeat the tile's first row; they are never stored, and no column sees another.
//
// Of values with two terms (gemm2's), a slot's columns are the first terms and, from `second_begin` on, the second ones; or
// the first terms and the second ones have a slot each.
template <class Product, class S>
struct Gather {
  Smem<S>& smem;
  RingProducer<S::kSlots>& ring;
  const ProductParams& product;
  const std::int32_t* index;  // numbers of the tile's rows behind `codes`; where rows lie in order, none
  std::int32_t count;         // rows of the tile
  std::int32_t slots;         // to fill
  std::int32_t slots_a_block;
  std::int32_t second_begin;  // beyond all columns where a slot has one term
  const std::uint8_t* codes;  // from the item's first K block on
  const float* scale;
  std::int32_t weight_scale_end;  // behind the item's last weight scale; for the first two threads, of a box each

  template <int kWidth>
  __device__ __forceinline__ std::uint32_t number_of(int column) const {
    if constexpr (!Product::kIndexed) {
      const std::int32_t term = kWidth <= S::kMostSwapped && column >= second_begin ? 1 : 0;
      const std::int32_t within = column - term * second_begin;
      return static_cast<std::uint32_t>((within < count ? within : 0) * product.terms + term);
    }
    const std::int32_t row = column < count ? column : 0;
    const auto number = static_cast<std::uint32_t>(__ldcg(index + row));
    BLOCKMOE_CHECK_OR_TRAP(number < product.rows.scale_pitch);  // as many rows as a block has scales
    return number;
  }

  template <int kWidth>
  __device__ __forceinline__ void run() const {
    constexpr int kRowsAPass = kGatherThreads / 8;
    constexpr int kPasses = kWidth / kRowsAPass;
    constexpr int kScalePasses = (kWidth + kGatherThreads - 1) / kGatherThreads;
    static_assert(kRowsAPass == 8 && kWidth % kRowsAPass == 0, "the swizzle repeats every 8 rows");
    static_assert(kGatherThreads % 16 == 0, "column_place() repeats every 16 columns");
    static_assert(plan::kMaxSlabTokens * contract::kMaxHiddenPitch <= std::int64_t{1} << 32,
                  "a row begins within 32 bits");
    const int thread = ptx::thread_index() - kFirstGatherThread;
    const int first = thread / 8, chunk = thread % 8;           // row of a pass, 16 bytes of it
    std::uint32_t begin[kPasses], scale_numbers[kScalePasses];  // of the pass's row, in bytes from `codes`
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      begin[pass] = number_of<kWidth>(pass * kRowsAPass + first) * product.rows.pitch;
    }
#pragma unroll
    for (int pass = 0; pass < kScalePasses; ++pass)
      scale_numbers[pass] = number_of<kWidth>(pass * kGatherThreads + thread);

    // Whether terms have a slot each, one after the other: never up to half of kMostSwapped columns, always beyond kMostSwapped; between
    // them the item says.
    constexpr bool kNever = Product::kIndexed || 2 * kWidth <= S::kMostSwapped, kAlways = kWidth > S::kMostSwapped;
    const bool alternates = !kNever && (kAlways ? product.terms > 1 : slots_a_block > 1);
    const std::uint8_t* from = codes + chunk * 16;
    const float* scale_from = scale;
    const int place = first * kBlock + (chunk ^ first) * 16;  // swizzled; the same in every pass
    const int scale_place = column_place(thread);
#pragma unroll 1
    for (std::int32_t left = slots; left > 0; --left) {
      const int slot = ring.acquire();
      std::uint8_t* const to = smem.slots[slot].rows + place;
#pragma unroll
      for (std::uint32_t& row : begin) ptx::forget(row);
#pragma unroll
      for (int pass = 0; pass < kPasses; ++pass) {
        ptx::cp_async_16(to + pass * kRowsAPass * kBlock, from + begin[pass]);
      }
      auto& scales = smem.scales[slot + static_cast<int>(ring.parity()) * S::kSlots];
#pragma unroll
      for (int pass = 0; pass < kScalePasses; ++pass) {
        if (pass * kGatherThreads + thread < kWidth) {
          ptx::cp_async_4(&scales.column[scale_place + pass * kGatherThreads], scale_from + scale_numbers[pass]);
        }
      }
      if (thread < kBoxes) {
        const std::int32_t blocks_left = alternates ? (left + 1) >> 1 : left;
        ptx::cp_async_4(&scales.weight[thread], product.weight_scale + (weight_scale_end - blocks_left));
      }
      ptx::cp_async_mbarrier_arrive(&smem.landed[slot]);
      ring.advance();
      if (alternates) {  // to the second term, or back to the first
        const bool to_second = left % 2 == 0;
        const std::uint32_t pitch = product.rows.pitch;
        from += to_second ? static_cast<std::int64_t>(pitch) : -static_cast<std::int64_t>(pitch);
        scale_from += to_second ? 1 : -1;
        if (to_second) continue;
      }
      from += kBlock;
      scale_from += product.rows.scale_pitch;
    }
  }
};

template <class Product, class S>
__device__ __forceinline__ void gather_item(Smem<S>& smem, RingProducer<S::kSlots>& ring, const Work& work,
                                            const typename Product::Params& params) {
  const ProductParams& product = params.product;
  const Rows& rows = product.rows;
  const Tile tile = work.tile;
  const BoxRows boxes = Product::box_rows(params, tile);
  const std::int32_t box = (ptx::thread_index() == kFirstGatherThread ? boxes.row[0] : boxes.row[1]) / kBoxRows;
  const std::int64_t k = work.k_begin;
  const std::int64_t first = Product::kIndexed ? 0 : static_cast<std::int64_t>(tile.columns.row) * product.terms;
  const bool both_terms = product.terms > work.slots_a_block;
  const int width = both_terms ? SwappedWidths<S>::round(tile.columns.rows) : S::kMaxWidth;
  const std::int32_t* index = nullptr;
  if constexpr (Product::kIndexed) index = rows.index + smem.row_base + tile.columns.row;
  GatheredWidths<S>::with(
      both_terms ? 2 * width : tile.columns.rows,
      Gather<Product, S>{smem, ring, product, index, tile.columns.rows, work.slots(), work.slots_a_block, width,
                         rows.codes + first * rows.pitch + k * kBlock, rows.scale + first + k * rows.scale_pitch,
                         box * product.k_blocks + work.k_end});
}

// gemm2's rows are there when all of the expert's tiles of gemm1 are finished. Whoever has them took them earlier, and waits for
// nobody who comes later.
template <class S>
__device__ __forceinline__ void await_gemm1(const Smem<S>& smem, const Params& params, std::int32_t expert) {
  const auto tiles = static_cast<std::uint32_t>(smem.table.column_tiles_of(expert) * params.gemm1.product.weight_tiles);
  if (ptx::thread_index() % 32 == 0) {
    while (ptx::load_acquire(params.chunk.finished + expert) < tiles * kMultiplyWarps) {
    }
  }
  __syncwarp();
}

template <class S>
__device__ __forceinline__ void gather_rows(Smem<S>& smem, const Params& params) {
  RingProducer<S::kSlots> ring(smem.ring);
  for (WorkReader reader(smem.queue); reader.next(); reader.release_by_warp()) {
    const Work& work = reader.work();
    if (work.product == Gemm1::kNumber) {
      gather_item<Gemm1>(smem, ring, work, params.gemm1);
    } else {
      if (params.gemm1.product.wanted) await_gemm1(smem, params, work.tile.columns.expert);
      gather_item<Gemm2>(smem, ring, work, params.gemm2);
    }
  }
}

// Warp 1, one lane. cp.async writes as ordinary stores do; between those and the tensor cores' reads a proxy fence must stand.
// Here it holds up neither the next copies nor the products. The lane has time for rows of zeros, too.
template <class S>
__device__ __forceinline__ void hand_over_rows(Smem<S>& smem, const ChunkParams& chunk) {
  RingPosition<S::kSlots> position;
  ZeroRows<S> zeros(smem, chunk);
  for (WorkReader reader(smem.queue); reader.next(); reader.release()) {
    for (std::int32_t left = reader.work().slots(); left > 0; --left) {
      ptx::mbarrier_wait_parity(&smem.landed[position.slot()], position.parity());
      ptx::fence_proxy_async_shared();
      ptx::mbarrier_arrive(&smem.ring.full[position.slot()]);
      position.advance();
      if constexpr (S::kWritesZeros) zeros.step();
    }
  }
  if constexpr (S::kWritesZeros) zeros.finish();
}

}  // namespace blockmoe::kernels::hopper
