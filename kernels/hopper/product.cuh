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
#pragma once

#include <cuda.h>

#include <cstdint>
#include <type_traits>

#include "checked.h"
#include "hopper/columns.cuh"
#include "hopper/ring.cuh"
#include "hopper/split.h"
#include "plan/hopper_tuning.h"
#include "plan/sizes.h"
#include "ptx/barrier.h"
#include "ptx/cp_async.h"
#include "ptx/fence.h"
#include "ptx/forget.h"
#include "ptx/griddepcontrol.h"
#include "ptx/setmaxnreg.h"
#include "ptx/thread_index.h"
#include "ptx/tma.h"
#include "ptx/wgmma.h"
#include "stages/layout.h"

namespace blockmoe::kernels::hopper {

inline constexpr int kBlock = 128;    // values of K that share a scale; bytes of a row in a slot
inline constexpr int kBoxRows = 128;  // weight rows of a box
inline constexpr int kBoxes = 2;
inline constexpr int kBoxBytes = kBoxRows * kBlock;
inline constexpr int kCopyThreads = 128;
inline constexpr int kGatherThreads = 64;
inline constexpr int kFirstGatherThread = 64;
inline constexpr int kMultiplyThreads = 2 * ptx::kWarpgroupThreads;
inline constexpr int kMultiplyWarps = kMultiplyThreads / 32;
inline constexpr int kThreads = kCopyThreads + kMultiplyThreads;
inline constexpr int kBlocksToStartNext = 10;  // K blocks before a CTA's last when the next kernel may start

// Named barriers. A warpgroup's own: kWarpgroupBarrier + 0 or 1.
inline constexpr int kMultiplyBarrier = 2;
inline constexpr int kWarpgroupBarrier = 3;

// The widest column tile and how many slots of the ring fit beside it.
template <int kWidth, int kSlotCount, int kCtasPerSm>
struct Shape {
  static constexpr int kMaxWidth = kWidth;
  static constexpr int kSlots = kSlotCount;
  static constexpr int kCtas = kCtasPerSm;
  // Where the kernel ahead leaves room for this one, this one may start as soon as that one has begun.
  static constexpr bool kStartsBesideOthers = kCtasPerSm > 1;
  static constexpr bool kExactGemm1 = kWidth <= plan::kExactGemm1Columns;  // multiply_exact.cuh
  // Registers move from the copying warps to the multiplying ones. A CTA has what the launch gave it: 168 a thread where it
  // has the SM, 80 where two share it.
  static constexpr int kCopyRegisters = kCtas == 1 ? 40 : 48;
  static constexpr int kMultiplyRegisters = kCtas == 1 ? 232 : 96;
  static_assert(kCopyRegisters + 2 * kMultiplyRegisters <= 3 * (kCtas == 1 ? 168 : 80),
                "setmaxnreg would wait for ever");
};

using Narrow = Shape<24, 3, 2>;  // 96 KB in flight; two CTAs fit an SM, so gemm2's weights fly while gemm1 ends
using Middle = Shape<64, 5, 1>;
using Wide = Shape<128, 4, 1>;

// The widths that a shape's kernel holds code for, narrowest first.
template <int... kWidths>
struct WidthList {
  static __device__ __forceinline__ int round(int rows) {
    int width = 0;
    (void)((width = kWidths, rows <= kWidths) || ...);
    return width;
  }
  // Calls task.run<width>() for the narrowest width that holds `rows`. One test after the other, not nested: nested, their
  // reconvergence points are spilled.
  template <class Task>
  static __device__ __forceinline__ void with(int rows, const Task& task) {
    const int width = round(rows);
    ((width == kWidths ? task.template run<kWidths>() : static_cast<void>(0)), ...);
  }
};

template <class S>
struct WidthsOf;
template <>
struct WidthsOf<Narrow> : WidthList<8, 16, 24> {};
template <>
struct WidthsOf<Middle> : WidthList<8, 16, 24, 32, 40, 48, 56, 64> {};
template <>
struct WidthsOf<Wide> : WidthList<16, 32, 48, 64, 72, 80, 88, 96, 104, 112, 120, 128> {};

constexpr int round_up(int value, int step) {
  return (value + step - 1) / step * step;
}

inline constexpr int kStagedRowBytes = kBlock + 16;  // 16 more than the row: eight rows then cover all banks

template <class S>
struct Smem {
  struct Slot {
    std::uint8_t weights[kBoxes][kBoxBytes];   // 128-byte swizzle, by the copy engine
    std::uint8_t rows[S::kMaxWidth * kBlock];  // the same, by hand
  };
  struct Scales {
    float column[round_up(S::kMaxWidth, 16)];  // of X's rows, in the order of column_place()
    float weight[4];                           // [0] and [1]: of the two boxes
  };
  Slot slots[S::kSlots];
  std::uint8_t staging[S::kMaxWidth * kStagedRowBytes];  // a tile's results on their way to global memory
  Scales scales[2 * S::kSlots];                          // one a slot and parity: read after the slot was released
  float amax[kMultiplyWarps][S::kMaxWidth];
  float inverse[S::kMaxWidth];
  Split split;
  Share share;  // this CTA's
  ColumnTable table;
  std::int32_t row_base;  // Chunk::row_base
  Ring<S::kSlots> ring;
  std::uint64_t landed[S::kSlots];  // a slot's rows and scales, before they are fenced

  static_assert(sizeof(Slot) % 1024 == 0, "swizzled tiles begin at multiples of 1024 bytes");
};

// Bytes of a CTA's shared memory: the plan and the column table behind it.
template <class S>
constexpr std::size_t smem_bytes(std::int32_t experts) {
  return sizeof(Smem<S>) + 2 * sizeof(std::int32_t) * static_cast<std::size_t>(experts + 1);
}
static_assert(2 * (smem_bytes<Narrow>(64) + 1024) <= 228 * 1024, "two narrow CTAs an SM");
static_assert(smem_bytes<Middle>(1024) <= 227 * 1024, "middle");
static_assert(smem_bytes<Wide>(plan::kMostExpertsWide) <= 227 * 1024, "wide");

// Where column n's scale lies, so that a thread reads those of its four columns of 16 with one 16-byte load.
__device__ __forceinline__ int column_place(int n) {
  const int pair_of_tiles = n / 16, tile = n / 8 % 2, quad_lane = n / 2 % 4, low = n % 2;
  return pair_of_tiles * 16 + quad_lane * 4 + tile * 2 + low;
}

// X: row r of the chunk is row index[row_base + r] of `codes`, or row r where the product has no index.
struct Rows {
  const std::uint8_t* codes;  // [.., K] e4m3
  std::uint32_t pitch;        // bytes from row to row
  const float* scale;         // [K/128, ..]
  std::int64_t scale_pitch;
  const std::int32_t* index;
};

// First weight rows of a tile's two boxes, counted over all experts. A box that is not there repeats the other.
struct BoxRows {
  std::int32_t row[kBoxes];
};

// What a product needs beside its own parameters.
struct ProductParams {
  const stages::Chunk* chunk;
  bool first_chunk;                  // of the slab: pack may be running still. A later chunk may be empty
  const std::int32_t* expert_begin;  // [L + 1] of the chunk
  const float* weight_scale;         // [rows of W / 128, K/128]
  Rows rows;
  std::int32_t experts;       // L
  std::int32_t weight_tiles;  // of an expert
  std::int32_t k_blocks;
  std::int32_t most_pieces;  // of a cut tile
  float4* sums;              // [CTAs, kMaxWidth / 4, kMultiplyThreads] what contributors of cut tiles leave
  std::uint32_t* flags;      // [CTAs, 2] 1 when a warpgroup has left its sums; zero before the launch
};

// Warp 0, one lane: both boxes of each K block. An expert's last column tile lets its weights go from L2; those before it, which
// run beside it a few K blocks apart, leave them there. The next kernel may start at once where there is room for it; else shortly
// before the last K block, so that its first weights fill the time in which this one adds up, finishes and stores.
template <class Product, class S>
__device__ __forceinline__ void stream_weights(Smem<S>& smem, const CUtensorMap* map,
                                               const typename Product::Params& params) {
  RingProducer<S::kSlots> ring(smem.ring);
  const std::uint64_t last_reader = ptx::l2_evict_first(), earlier_reader = ptx::l2_evict_normal();
  Item item;
  if (S::kStartsBesideOthers) ptx::griddepcontrol_launch_dependents();
  std::int32_t left = 0;
  for (std::int32_t i = 0; item_at(smem.split, smem.share, ptx::block_index(), i, &item); ++i) {
    left += item.k_end - item.k_begin;
  }
  if (!S::kStartsBesideOthers && left < kBlocksToStartNext) ptx::griddepcontrol_launch_dependents();
  for (std::int32_t i = 0; item_at(smem.split, smem.share, ptx::block_index(), i, &item); ++i) {
    const Tile tile = smem.table.find(item.tile);
    const BoxRows boxes = Product::box_rows(params, tile);
    const std::uint64_t policy = smem.table.is_last(tile.columns) ? last_reader : earlier_reader;
    for (std::int32_t k = item.k_begin; k < item.k_end; ++k, --left) {
      auto& slot = smem.slots[ring.acquire()];
      ring.announce(kBoxes * kBoxBytes);
      for (int box = 0; box < kBoxes; ++box) {
        BLOCKMOE_CHECK_OR_TRAP(boxes.row[box] >= 0 && boxes.row[box] / (kBoxes * kBoxRows) <
                                                          params.product.experts * params.product.weight_tiles);
        ptx::cp_async_bulk_tensor_2d(slot.weights[box], map, k * kBlock, boxes.row[box], ring.barrier(), policy);
      }
      ring.advance();
      if (!S::kStartsBesideOthers && left == kBlocksToStartNext) ptx::griddepcontrol_launch_dependents();
    }
  }
}

// Warps 2 and 3, one item's rows and scales. They arrive at `landed` when the copies have, so that as many K blocks are on
// their way as the ring has slots.
//
// A thread copies the same 16 bytes of every eighth row. Its rows' numbers stay in registers, two in each, so that 16 bytes
// cost three instructions (number, address, copy) and nothing is looked up or tested in a K block. Columns beyond the rows
// repeat the tile's first row; they are never stored, and no column sees another.
template <class Product, class S>
struct Gather {
  Smem<S>& smem;
  RingProducer<S::kSlots>& ring;
  const ProductParams& product;
  const std::int32_t* index;  // numbers of the tile's rows behind `codes`; where rows lie in order, none
  std::int32_t count;         // rows of the tile
  std::int32_t k_blocks;
  const std::uint8_t* codes;  // from the item's first K block on
  const float* scale;
  std::int32_t weight_scale_end;  // behind the item's last weight scale; for the first two threads, of a box each

  __device__ __forceinline__ std::uint32_t number_of(int column) const {
    const std::int32_t row = column < count ? column : 0;
    if constexpr (!Product::kIndexed) return static_cast<std::uint32_t>(row);
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
    static_assert(plan::kMaxSlabTokens <= 1 << 16 && S::kMaxWidth <= 1 << 16, "two row numbers a register");
    const int thread = ptx::thread_index() - kFirstGatherThread;
    const int first = thread / 8, chunk = thread % 8;  // row of a pass, 16 bytes of it
    std::uint32_t numbers[(kPasses + 1) / 2], scale_numbers[kScalePasses];
#pragma unroll
    for (int pass = 0; pass < kPasses; pass += 2) {
      numbers[pass / 2] = number_of(pass * kRowsAPass + first);
      if (pass + 1 < kPasses) numbers[pass / 2] |= number_of((pass + 1) * kRowsAPass + first) << 16;
    }
#pragma unroll
    for (int pass = 0; pass < kScalePasses; ++pass) scale_numbers[pass] = number_of(pass * kGatherThreads + thread);

    const std::uint8_t* from = codes + chunk * 16;
    const float* scale_from = scale;
    const int place = first * kBlock + (chunk ^ first) * 16;  // swizzled; the same in every pass
    const int scale_place = column_place(thread);
#pragma unroll 1
    for (std::int32_t left = k_blocks; left > 0; --left) {
      const int slot = ring.acquire();
      std::uint8_t* const to = smem.slots[slot].rows + place;
#pragma unroll
      for (std::uint32_t& two : numbers) ptx::forget(two);
      std::uint32_t pitch = product.rows.pitch;
      ptx::forget(pitch);
#pragma unroll
      for (int pass = 0; pass < kPasses; ++pass) {
        const std::uint32_t two = numbers[pass / 2];
        const std::uint32_t number = pass % 2 == 0 ? two & 0xffffu : two >> 16;
        ptx::cp_async_16(to + pass * kRowsAPass * kBlock, from + static_cast<std::uint64_t>(number) * pitch);
      }
      auto& scales = smem.scales[slot + static_cast<int>(ring.parity()) * S::kSlots];
#pragma unroll
      for (int pass = 0; pass < kScalePasses; ++pass) {
        if (pass * kGatherThreads + thread < kWidth) {
          ptx::cp_async_4(&scales.column[scale_place + pass * kGatherThreads], scale_from + scale_numbers[pass]);
        }
      }
      if (thread < kBoxes) ptx::cp_async_4(&scales.weight[thread], product.weight_scale + (weight_scale_end - left));
      ptx::cp_async_mbarrier_arrive(&smem.landed[slot]);
      ring.advance();
      from += kBlock;
      scale_from += product.rows.scale_pitch;
    }
  }
};

template <class Product, class S>
__device__ __forceinline__ void gather_rows(Smem<S>& smem, const typename Product::Params& params) {
  const ProductParams& product = params.product;
  const Rows& rows = product.rows;
  RingProducer<S::kSlots> ring(smem.ring);
  Item item;
  for (std::int32_t i = 0; item_at(smem.split, smem.share, ptx::block_index(), i, &item); ++i) {
    const Tile tile = smem.table.find(item.tile);
    const BoxRows boxes = Product::box_rows(params, tile);
    const std::int32_t box = (ptx::thread_index() == kFirstGatherThread ? boxes.row[0] : boxes.row[1]) / kBoxRows;
    const std::int64_t k = item.k_begin;
    const std::int64_t first = Product::kIndexed ? 0 : tile.columns.row;
    const std::int32_t* index = nullptr;
    if constexpr (Product::kIndexed) index = rows.index + smem.row_base + tile.columns.row;
    WidthsOf<S>::with(
        tile.columns.rows,
        Gather<Product, S>{smem, ring, product, index, tile.columns.rows, item.k_end - item.k_begin,
                           rows.codes + first * rows.pitch + k * kBlock, rows.scale + first + k * rows.scale_pitch,
                           box * product.k_blocks + item.k_end});
  }
}

// Warp 1, one lane. cp.async writes as ordinary stores do; between those and the tensor cores' reads a proxy fence must stand.
// Here it holds up neither the next copies nor the products.
template <class S>
__device__ __forceinline__ void hand_over_rows(Smem<S>& smem) {
  RingPosition<S::kSlots> position;
  Item item;
  for (std::int32_t i = 0; item_at(smem.split, smem.share, ptx::block_index(), i, &item); ++i) {
    for (std::int32_t k = item.k_begin; k < item.k_end; ++k) {
      ptx::mbarrier_wait_parity(&smem.landed[position.slot], position.parity);
      ptx::fence_proxy_async_shared();
      ptx::mbarrier_arrive(&smem.ring.full[position.slot]);
      position.advance();
    }
  }
}

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

// The 128 values of K of one box's 64 rows.
template <int kWidth>
__device__ __forceinline__ void multiply_block(float (&partial)[kWidth / 2], std::uint64_t weights,
                                               std::uint64_t rows) {
#pragma unroll
  for (int k = 0; k < kBlock / ptx::kKOfWgmma; ++k) {
    ptx::WgmmaE4m3<kWidth>::issue(partial, weights + k * ptx::kKStep, rows + k * ptx::kKStep, k != 0);
  }
  ptx::wgmma_commit_group();
}

// One warpgroup: `k_blocks` K blocks into its accumulators. Up to 64 columns both boxes' partials are in flight at once, and
// the column scales are read once for both.
template <int kWidth, class S>
__device__ __forceinline__ void multiply(Smem<S>& smem, RingConsumer<S::kSlots>& ring, int warpgroup, int k_blocks,
                                         float (&acc)[kBoxes][kWidth / 2]) {
  constexpr bool kBothInFlight = kWidth <= 64;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const auto release = [&] {
    __syncwarp();
    if (lane == 0) ring.release();
    ring.advance();
  };
#pragma unroll 1
  for (int k = 0; k < k_blocks; ++k) {
    const int number = ring.wait();
    const auto& slot = smem.slots[number];
    const auto& scales = smem.scales[number + static_cast<int>(ring.parity()) * S::kSlots];
    const std::uint64_t rows = ptx::k_major_descriptor(slot.rows);
    const std::uint64_t box0 = ptx::k_major_descriptor(slot.weights[0] + warpgroup * ptx::kRowsOfWgmma * kBlock);
    const std::uint64_t box1 = ptx::k_major_descriptor(slot.weights[1] + warpgroup * ptx::kRowsOfWgmma * kBlock);
    const float4* const columns = reinterpret_cast<const float4*>(scales.column) + lane % 4;

    if constexpr (kBothInFlight) {
      float first[kWidth / 2], second[kWidth / 2];
      ptx::pin_registers(first);
      ptx::pin_registers(second);
      ptx::wgmma_fence();
      multiply_block<kWidth>(first, box0, rows);
      multiply_block<kWidth>(second, box1, rows);
      float4 held[(kWidth + 15) / 16];
#pragma unroll
      for (int j = 0; j < (kWidth + 15) / 16; ++j) held[j] = columns[4 * j];
      const float2 weight = *reinterpret_cast<const float2*>(scales.weight);
      const auto column = [&](int j) { return held[j]; };
      ptx::wgmma_wait_group<1>();
      ptx::pin_registers(first);
      promote<kWidth>(acc[0], first, column, weight.x);
      ptx::wgmma_wait_group<0>();
      ptx::pin_registers(second);
      release();
      promote<kWidth>(acc[1], second, column, weight.y);
    } else {
      // Scales read while the first box's wgmma run and kept for the second's, as many as registers allow.
      constexpr int kFours = (kWidth + 15) / 16;
      constexpr int kHeld = kWidth <= 112 ? kFours : kWidth <= 120 ? 7 : 4;
      float4 held[kHeld];
      float partial[kWidth / 2];
      ptx::pin_registers(partial);
      ptx::wgmma_fence();
      multiply_block<kWidth>(partial, box0, rows);
#pragma unroll
      for (int j = 0; j < kHeld; ++j) held[j] = columns[4 * j];
      const auto column = [&](int j) { return j < kHeld ? held[j] : columns[4 * j]; };
      const float2 weight = *reinterpret_cast<const float2*>(scales.weight);
      ptx::wgmma_wait_group<0>();
      ptx::pin_registers(partial);
      promote<kWidth>(acc[0], partial, column, weight.x);
      ptx::pin_registers(partial);
      ptx::wgmma_fence();
      multiply_block<kWidth>(partial, box1, rows);
      ptx::wgmma_wait_group<0>();
      ptx::pin_registers(partial);
      release();
      promote<kWidth>(acc[1], partial, column, weight.y);
    }
  }
}

// Cut tiles: a warpgroup's accumulators, in the order of its threads' registers.
template <class S>
__device__ __forceinline__ float4* sums_of(const ProductParams& params, std::int32_t cta) {
  const int thread = ptx::thread_index() - kCopyThreads;
  return params.sums + static_cast<std::int64_t>(cta) * (S::kMaxWidth / 4 * kMultiplyThreads) + thread;
}

template <int kWidth, class S>
__device__ __forceinline__ void leave_sums(const ProductParams& params, int warpgroup,
                                           const float (&acc)[kBoxes][kWidth / 2]) {
  float4* const to = sums_of<S>(params, ptx::block_index());
#pragma unroll
  for (int i = 0; i < kWidth / 4; ++i) {
    const float* const four = &acc[i / (kWidth / 8)][i % (kWidth / 8) * 4];
    __stcg(to + i * kMultiplyThreads, make_float4(four[0], four[1], four[2], four[3]));
  }
  ptx::named_barrier_sync(kWarpgroupBarrier + warpgroup, ptx::kWarpgroupThreads);
  if (ptx::thread_index() % ptx::kWarpgroupThreads == 0) {
    ptx::store_release(params.flags + ptx::block_index() * 2 + warpgroup, 1);
  }
}

// Waits for the flags of the share's contributors, a lane each, then adds their sums, the nearest CTA's first. The loads of
// several are in flight at once where registers allow.
template <int kWidth, class S>
__device__ __forceinline__ void add_sums(const ProductParams& params, const Share& share, int warpgroup,
                                         float (&acc)[kBoxes][kWidth / 2]) {
  constexpr int kAtOnce = kWidth <= 8 ? 4 : 1;
  constexpr int kFours = kWidth / 4;
  const auto from = [&](std::int32_t cta, int i) { return sums_of<S>(params, cta) + i * kMultiplyThreads; };
  const std::int32_t first = share.first_contributor, owner = ptx::block_index();
  for (std::int32_t cta = owner - 1 - ptx::thread_index() % 32; cta >= first; cta -= 32) {
    while (ptx::load_acquire(params.flags + cta * 2 + warpgroup) == 0) {
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

// Warpgroups 1 and 2: the `ordinal`-th item of the CTA, whose tile's rows fit kWidth. A functor, and inlined: wgmma must not
// stand in a function that is called.
template <class Product, class S>
struct MultiplyAndFinish {
  Smem<S>& smem;
  RingConsumer<S::kSlots>& ring;
  const typename Product::Params& params;
  int warpgroup;
  std::int32_t ordinal;

  template <int kWidth>
  __device__ __forceinline__ void run() const {
    Item item;
    item_at(smem.split, smem.share, ptx::block_index(), ordinal, &item);
    float acc[kBoxes][kWidth / 2] = {};
    Product::template multiply<kWidth>(smem, ring, warpgroup, item.k_end - item.k_begin, acc);
    // Looked up again rather than kept: registers are short while the products run.
    item_at(smem.split, smem.share, ptx::block_index(), ordinal, &item);
    if (item.k_end < smem.split.k_blocks) {
      leave_sums<kWidth, S>(params.product, warpgroup, acc);
      return;
    }
    if (item.k_begin > 0) add_sums<kWidth, S>(params.product, smem.share, warpgroup, acc);
    Product::template finish<kWidth>(smem, params, smem.table.find(item.tile), warpgroup, acc);
  }
};

template <class Product, class S>
__device__ __forceinline__ void multiply_and_finish(Smem<S>& smem, const typename Product::Params& params) {
  const int warpgroup = (static_cast<int>(threadIdx.x) - kCopyThreads) / ptx::kWarpgroupThreads;
  RingConsumer<S::kSlots> ring(smem.ring);
  Item item;
  for (std::int32_t i = 0; item_at(smem.split, smem.share, ptx::block_index(), i, &item); ++i) {
    WidthsOf<S>::with(smem.table.find(item.tile).columns.rows,
                      MultiplyAndFinish<Product, S>{smem, ring, params, warpgroup, i});
  }
}

// Warp 1: the tiles of the chunk, and this CTA's share of them.
template <class S>
__device__ __forceinline__ void share_out(Smem<S>& smem, const ProductParams& params, std::int32_t* tables) {
  const ColumnTable table{params.experts, params.weight_tiles, S::kMaxWidth, tables, tables + params.experts + 1};
  table.build(params.expert_begin);
  __syncwarp();
  if (ptx::thread_index() % 32 != 0) return;
  smem.table = table;
  smem.row_base = __ldcg(&params.chunk->row_base);
  smem.split = make_split(table.tiles(), params.k_blocks, static_cast<std::int32_t>(gridDim.x), params.most_pieces);
  smem.share = share_of(smem.split, ptx::block_index());
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
