// product_plan.cuh: sizes, shapes and shared memory of the grouped products (products.cuh), and what a launch tells them.
#pragma once

#include <cuda.h>

#include <cstddef>
#include <cstdint>

#include "hopper/columns.cuh"
#include "hopper/ring.cuh"
#include "hopper/split.h"
#include "hopper/work.cuh"
#include "plan/hopper_tuning.h"
#include "ptx/thread_index.h"
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
// K blocks before the end of a part's weights at which the next part is asked for: the answer takes a microsecond.
inline constexpr int kBlocksToAsk = 12;
inline constexpr int kWorkReaders = kMultiplyWarps + kGatherThreads / 32 + 1;

// Named barriers. A warpgroup's own: + 0 or 1.
inline constexpr int kMultiplyBarrier = 2;
inline constexpr int kWarpgroupBarrier = 3;

// The widest column tile and how many slots of the ring fit beside it.
template <int kWidth, int kSlotCount, bool kLeavesRoomForNext>
struct Shape {
  static constexpr int kMaxWidth = kWidth;
  static constexpr int kSlots = kSlotCount;
  // Tiles of more rows than that are multiplied straight (multiply_straight.cuh).
  static constexpr int kMostSwapped = kWidth == kBoxRows ? plan::kMostSwappedRows : kWidth;
  static constexpr bool kWritesZeros = kWidth == kBoxRows;  // zero_rows.cuh
  static constexpr int kZeroBytes = kWritesZeros ? 2048 : 0;
  static constexpr bool kExactGemm1 = kWidth <= plan::kExactGemm1Columns;  // multiply_exact.cuh
  // Half of the registers are left, so that the next kernel's CTAs stand ready when this one ends.
  static constexpr bool kLeavesRoom = kLeavesRoomForNext;
  static constexpr int kCtasThatFit = kLeavesRoom ? 2 : 1;
  // Registers move from the copying warps to the multiplying ones. A CTA has what the launch gave it: 80 or 168 a thread.
  static constexpr int kCopyRegisters = kLeavesRoom ? 48 : 40;
  static constexpr int kMultiplyRegisters = kLeavesRoom ? 96 : 232;
  static_assert(kCopyRegisters + 2 * kMultiplyRegisters <= 3 * (kLeavesRoom ? 80 : 168),
                "setmaxnreg would wait for ever");
};

using Narrow = Shape<24, 6, true>;  // 192 KB of weights in flight: those of gemm2 while gemm1 ends
using Middle = Shape<64, 5, false>;
using Wide = Shape<128, 4, false>;

// The widths that a shape's kernel holds code for, narrowest first.
template <int... kWidths>
struct WidthList {
  template <int... kFirst>
  static constexpr bool begins_with(WidthList<kFirst...>) {
    const int all[] = {kWidths...}, first[] = {kFirst...};
    for (std::size_t i = 0; i < sizeof...(kFirst); ++i) {
      if (i >= sizeof...(kWidths) || all[i] != first[i]) return false;
    }
    return true;
  }
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

// Of swapped products.
template <class S>
struct SwappedWidths;
template <>
struct SwappedWidths<Narrow> : WidthList<8, 16, 24> {};
template <>
struct SwappedWidths<Middle> : WidthList<8, 16, 24, 32, 40, 48, 56, 64> {};
template <>
struct SwappedWidths<Wide> : WidthList<16, 32, 48, 64, 80> {};

// Rows that are gathered: as many as a swapped product multiplies. Straight ones multiply all; what lies in the rows that are
// not there stays there.
template <class S>
struct GatheredWidths : SwappedWidths<S> {};
template <>
struct GatheredWidths<Wide> : WidthList<16, 32, 48, 64, 80, 96, 112, 128> {};
static_assert(GatheredWidths<Wide>::begins_with(SwappedWidths<Wide>()),
              "a swapped tile's columns are gathered as they are multiplied");

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
  alignas(16) std::uint8_t zeros[S::kWritesZeros ? S::kZeroBytes : 16];
  float amax[kMultiplyWarps][S::kMaxWidth];
  float inverse[S::kMaxWidth];
  alignas(4) std::uint8_t exponent[2][S::kMaxWidth][4];  // of 16 columns a warp, in a warpgroup's 64 of a box (gemm2)
  Split split[2];                                        // of either product
  ColumnTable table;
  WorkQueue queue;
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
static_assert(smem_bytes<Narrow>(1024) <= 227 * 1024, "narrow");
static_assert(smem_bytes<Middle>(1024) <= 227 * 1024, "middle");
static_assert(smem_bytes<Wide>(plan::kMostExpertsWide) <= 227 * 1024, "wide");

// Where column n's scale lies, so that a thread reads those of its four columns of 16 with one 16-byte load.
__device__ __forceinline__ int column_place(int n) {
  const int pair_of_tiles = n / 16, tile = n / 8 % 2, quad_lane = n / 2 % 4, low = n % 2;
  return pair_of_tiles * 16 + quad_lane * 4 + tile * 2 + low;
}

// Where X's values have two terms and a tile is no wider than that, both stand in one slot, side by side as columns: rows are read
// with each K block of weights, and those go through shared memory once. Wider tiles take a slot a term. Either way a sum takes
// a K block's first term before its second.
template <class S>
__device__ __forceinline__ bool terms_share_slot(int rows) {
  return 2 * SwappedWidths<S>::round(rows) <= S::kMostSwapped;
}

// X: row r of the chunk is row index[row_base + r] of `codes`, or row r where the product has no index. Of values with t terms, rows
// r t to r t + t - 1.
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

// Where a warp's 16 rows of a straight product go: through its part of the staging rows, 128 bytes of each at a time.
template <class S>
struct StraightRows {
  int lane;
  std::int32_t first_row;  // of the chunk
  std::int32_t rows;       // of the 16, those that are there; may be negative
  std::uint8_t* staging;   // [16, kStagedRowBytes]

  __device__ __forceinline__ StraightRows(Smem<S>& smem, const Tile& tile, int warpgroup) {
    const int thread = ptx::thread_index() % ptx::kWarpgroupThreads;
    const int first = warpgroup * ptx::kRowsOfWgmma + thread / 32 * 16;
    lane = thread % 32;
    first_row = tile.columns.row + first;
    rows = tile.columns.rows - first;
    staging = smem.staging + first * kStagedRowBytes;
  }

  // What the warp has staged to columns `to`, `pitch` bytes from row to row. `to` is of row 0 of the chunk.
  __device__ __forceinline__ void store(std::uint8_t* to, std::int64_t pitch) const {
    constexpr int kChunks = kBlock / 16;
    __syncwarp();
#pragma unroll
    for (int row = lane / kChunks; row < 16; row += 32 / kChunks) {
      if (row < rows) {
        *reinterpret_cast<uint4*>(to + (first_row + row) * pitch + lane % kChunks * 16) =
            *reinterpret_cast<const uint4*>(staging + row * kStagedRowBytes + lane % kChunks * 16);
      }
    }
    __syncwarp();
  }
};

// What a product needs beside its own parameters.
struct ProductParams {
  bool wanted;
  bool exact;                 // in fp16, where the kernel has that
  bool in_halves;             // promotes every 64 of K, not every 128
  const float* weight_scale;  // [rows of W / 128, K/128]
  Rows rows;
  std::int32_t terms;         // of X's values (contract/intermediate.h)
  std::int32_t weight_tiles;  // of an expert
  std::int32_t k_blocks;
  float4* sums;          // [shares, kMaxWidth / 4, kMultiplyThreads] what contributors of cut tiles leave
  std::uint32_t* flags;  // [shares, 2] 1 when a warpgroup has left its sums; zero before the launch
};

// Where output rows of zeros go (zero_rows.cuh).
struct ZeroRowParams {
  bool wanted;
  std::int32_t picks;            // P
  const std::int32_t* pick_row;  // [T', P]
  std::uint8_t* output;          // [T', H] bf16 or f32
  std::int64_t pitch_bytes;
  std::int32_t row_bytes;  // 2 H or 4 H
};

// What both products need.
struct ChunkParams {
  const stages::Chunk* chunk;
  bool first_chunk;                  // of the slab: pack may be running still. A later chunk may be empty
  const std::int32_t* expert_begin;  // [L + 1] of the chunk
  std::int32_t experts;              // L
  std::int32_t most_pieces;          // of a cut tile
  bool cuts_leftover;
  std::uint32_t* taken;     // [1] parts that CTAs have taken; zero before the launch, as is
  std::uint32_t* finished;  // [L] multiplying warps that have finished a tile of gemm1
  ZeroRowParams zeros;
};

}  // namespace blockmoe::kernels::hopper
