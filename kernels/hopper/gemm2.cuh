// gemm2.cuh: each expert's rows times W2.
//
//   inter  [R, t, I]  e4m3, scales [I/128, R, t]: gemm1's, t terms a value
//   w2     [L, H, I]  e4m3, its two boxes: rows [h, h + 128) and [h + 128, h + 256)
//   rows   [R, H]     f32, or fp16 with exponents (stages/short_rows.cuh), out, for the combine, not yet weighted
//
// A tile is (expert, up to kMaxWidth of its rows, 256 hidden columns) over all of I: each output value has one owner. Where H
// is an odd multiple of 128 the last tile's second box repeats the first and is not stored.
//
// Weights need nothing of gemm1: they are on their way while the last of its tiles are being finished.
#pragma once

#include "contract/requantise.h"
#include "hopper/product_plan.cuh"
#include "ptx/barrier.h"
#include "ptx/stmatrix.h"
#include "stages/short_rows.cuh"

namespace blockmoe::kernels::hopper {

struct Gemm2 {
  struct Params {
    ProductParams product;
    std::int32_t hidden;  // H
    plan::RowType row_type;
    void* out;               // [R, H] of row_type
    std::uint8_t* exponent;  // [R, H/16]
  };

  static constexpr int kNumber = 1;
  static constexpr bool kIndexed = false;  // rows lie in order

  static __device__ __forceinline__ std::int32_t first_column(const Tile& tile) {
    return tile.weight_tile * kBoxes * kBoxRows;
  }
  static __device__ __forceinline__ bool has_second_box(const Params& params, const Tile& tile) {
    return first_column(tile) + kBoxRows < params.hidden;
  }
  static __device__ __forceinline__ BoxRows box_rows(const Params& params, const Tile& tile) {
    const std::int32_t row = tile.columns.expert * params.hidden + first_column(tile);
    return {{row, has_second_box(params, tile) ? row + kBoxRows : row}};
  }

  template <int kWidth, class S>
  static __device__ __forceinline__ void finish(Smem<S>& smem, const Params& params, const Tile& tile, int warpgroup,
                                                float (&acc)[kBoxes][kWidth / 2]) {
    const bool both = has_second_box(params, tile);
    BLOCKMOE_CHECK_OR_TRAP(tile.columns.row >= 0 &&
                           tile.columns.row + tile.columns.rows <= params.product.rows.scale_pitch);
    if (params.row_type == plan::RowType::f32) {
      store_f32<kWidth>(params, tile, warpgroup, 0, acc[0]);
      if (both) store_f32<kWidth>(params, tile, warpgroup, 1, acc[1]);
    } else {
      store_short<kWidth>(smem, params, tile, warpgroup, 0, acc[0]);
      if (both) store_short<kWidth>(smem, params, tile, warpgroup, 1, acc[1]);
    }
  }

  // The same of straight products: a warp has 16 rows.
  template <class S>
  static __device__ __forceinline__ void finish_straight(Smem<S>& smem, const Params& params, const Tile& tile,
                                                         int warpgroup, float (&acc)[kBoxes][kBoxRows / 2]) {
    BLOCKMOE_CHECK_OR_TRAP(tile.columns.row >= 0 &&
                           tile.columns.row + tile.columns.rows <= params.product.rows.scale_pitch);
    const StraightRows<S> own(smem, tile, warpgroup);
#pragma unroll
    for (int box = 0; box < kBoxes; ++box) {
      if (box == 1 && !has_second_box(params, tile)) return;
      const std::int32_t h = first_column(tile) + box * kBoxRows;
      if (params.row_type == plan::RowType::f32) {
        auto* const to = static_cast<float*>(params.out) + h + own.lane % 4 * 2;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int row = own.lane / 4 + 8 * half;
          if (row >= own.rows) continue;
          float* const at = to + static_cast<std::int64_t>(own.first_row + row) * params.hidden;
#pragma unroll
          for (int j = 0; j < kBoxRows / 8; ++j) {
            const float* const pair = &acc[box][4 * j + 2 * half];
            *reinterpret_cast<float2*>(at + 8 * j) = make_float2(pair[0], pair[1]);
          }
        }
        continue;
      }
      constexpr int kStagedColumns = kBlock / 2;  // of a staged row
      auto* const to = static_cast<std::uint8_t*>(params.out) + static_cast<std::int64_t>(h) * 2;
      // One exponent for the box's columns of a row, which its quad of lanes has.
      float largest[2] = {};
#pragma unroll
      for (int i = 0; i < kBoxRows / 2; ++i) {
        largest[i % 4 / 2] = contract::amax_step(largest[i % 4 / 2], acc[box][i]);
      }
      std::uint32_t exponents = stages::short_exponents(largest[0], largest[1]);
#pragma unroll
      for (int step = 1; step < 4; step *= 2) {
        exponents = __vmaxu2(exponents, __shfl_xor_sync(0xffffffffu, exponents, step));
      }
      const float scale[2] = {stages::to_short_scale(exponents & 0xffffu), stages::to_short_scale(exponents >> 16)};
#pragma unroll
      for (int begin = 0; begin < kBoxRows; begin += kStagedColumns) {
        // Lanes 0..7 give the rows of the first 8 x 8 matrix (rows 0..7, columns 0..7), 8..15 of rows 8..15, the others of
        // columns 8..15.
        std::uint8_t* const staged = own.staging + own.lane % 16 * kStagedRowBytes + own.lane / 16 * 16;
#pragma unroll
        for (int j = 0; j < kStagedColumns / 8; j += 2) {
          std::uint32_t fragment[4];
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            const float* const two = &acc[box][begin / 2 + 4 * j + 2 * i];
            fragment[i] = stages::short_pair(two[0], two[1], scale[i % 2]);
          }
          ptx::stmatrix_x4(staged + j * 16, fragment);
        }
        own.store(to + begin * 2, static_cast<std::int64_t>(params.hidden) * 2);
      }
      static_assert(kBoxRows / plan::kShortColumns == sizeof(std::uint64_t), "an exponent a byte");
      constexpr std::uint64_t kInEachByte = 0x0101010101010101u;
      const int half = own.lane % 4;
      const int row = own.lane / 4 + 8 * half;
      if (half < 2 && row < own.rows) {
        *reinterpret_cast<std::uint64_t*>(exponents_at(params, own.first_row + row, h)) =
            kInEachByte * (half == 0 ? exponents & 0xffffu : exponents >> 16);
      }
    }
  }

 private:
  static __device__ __forceinline__ std::uint8_t* exponents_at(const Params& params, std::int32_t row, std::int32_t h) {
    return params.exponent + stages::place_of_exponent(params.hidden, row, h);
  }

  // A store instruction covers 8 neighbouring columns, one sector, of each of four rows.
  template <int kWidth>
  static __device__ __forceinline__ void store_f32(const Params& params, const Tile& tile, int warpgroup, int box,
                                                   const float (&acc)[kWidth / 2]) {
    const int thread = ptx::thread_index() % ptx::kWarpgroupThreads;
    const int lane = thread % 32;
    const std::int32_t h =
        first_column(tile) + box * kBoxRows + warpgroup * ptx::kRowsOfWgmma + thread / 32 * 16 + lane / 4;
    const int column = lane % 4 * 2;
    float* at =
        static_cast<float*>(params.out) + static_cast<std::int64_t>(tile.columns.row + column) * params.hidden + h;
    int left = tile.columns.rows - column;
#pragma unroll
    for (int j = 0; j < kWidth / 8; ++j) {
      if (left > 0) {
        at[0] = acc[4 * j];
        at[8] = acc[4 * j + 2];
      }
      if (left > 1) {
        at[params.hidden] = acc[4 * j + 1];
        at[params.hidden + 8] = acc[4 * j + 3];
      }
      at += static_cast<std::int64_t>(8) * params.hidden;
      left -= 8;
    }
  }

  // Through shared memory, as rows of 64 columns, at most kStagedRows of them at a time. A warp has 16 of the columns.
  template <int kWidth, class S>
  static __device__ __forceinline__ void store_short(Smem<S>& smem, const Params& params, const Tile& tile,
                                                     int warpgroup, int box, const float (&acc)[kWidth / 2]) {
    constexpr int kStagedRows = S::kMaxWidth / 2 / 8 * 8;  // half of the staging rows a warpgroup
    const int thread = ptx::thread_index() % ptx::kWarpgroupThreads;
    const int warp = thread / 32, lane = thread % 32;
    std::uint8_t* const staged = smem.staging + warpgroup * kStagedRows * kStagedRowBytes;
    const std::int32_t h = first_column(tile) + box * kBoxRows + warpgroup * ptx::kRowsOfWgmma;
    auto* const to =
        static_cast<std::uint16_t*>(params.out) + static_cast<std::int64_t>(tile.columns.row) * params.hidden + h;
#pragma unroll
    for (int begin = 0; begin < kWidth; begin += kStagedRows) {
      ptx::named_barrier_sync(kWarpgroupBarrier + warpgroup, ptx::kWarpgroupThreads);  // the last rows have left
#pragma unroll
      for (int j = begin / 8; j < (begin + kStagedRows) / 8 && j < kWidth / 8; ++j) {
        std::uint32_t exponents = stages::short_exponents(fmaxf(fabsf(acc[4 * j]), fabsf(acc[4 * j + 2])),
                                                          fmaxf(fabsf(acc[4 * j + 1]), fabsf(acc[4 * j + 3])));
#pragma unroll
        for (int step = 4; step < 32; step *= 2) {
          exponents = __vmaxu2(exponents, __shfl_xor_sync(0xffffffffu, exponents, step));
        }
        const float scale[2] = {stages::to_short_scale(exponents & 0xffffu), stages::to_short_scale(exponents >> 16)};
        if (lane < 4) {
          smem.exponent[warpgroup][8 * j + lane * 2][warp] = static_cast<std::uint8_t>(exponents);
          smem.exponent[warpgroup][8 * j + lane * 2 + 1][warp] = static_cast<std::uint8_t>(exponents >> 16);
        }
        const std::uint32_t fragment[2] = {stages::short_pair(acc[4 * j], acc[4 * j + 1], scale[0], scale[1]),
                                           stages::short_pair(acc[4 * j + 2], acc[4 * j + 3], scale[0], scale[1])};
        // Lanes 0..7 and 8..15 give the rows of the two 8 x 8 matrices: 8 columns each of 8 rows of the chunk.
        std::uint8_t* const row =
            staged + (8 * j - begin + lane % 8) * kStagedRowBytes + (warp * 16 + lane / 8 % 2 * 8) * 2;
        ptx::stmatrix_x2_transposed(row, fragment);
      }
      ptx::named_barrier_sync(kWarpgroupBarrier + warpgroup, ptx::kWarpgroupThreads);
      const int left = tile.columns.rows - begin;
      const int rows = left < kStagedRows ? left : kStagedRows;
      for (int i = thread; i < rows * 8; i += ptx::kWarpgroupThreads) {
        *reinterpret_cast<uint4*>(to + static_cast<std::int64_t>(begin + i / 8) * params.hidden + i % 8 * 8) =
            *reinterpret_cast<const uint4*>(staged + i / 8 * kStagedRowBytes + i % 8 * 16);
      }
    }
    if (thread < tile.columns.rows) {
      *reinterpret_cast<std::uint32_t*>(exponents_at(params, tile.columns.row + thread, h)) =
          *reinterpret_cast<const std::uint32_t*>(smem.exponent[warpgroup][thread]);
    }
    // A straight tile may come next, whose warps stage each for itself.
    ptx::named_barrier_sync(kWarpgroupBarrier + warpgroup, ptx::kWarpgroupThreads);
  }
};

}  // namespace blockmoe::kernels::hopper
