// gemm1.cuh: gate and up products of each expert's rows, SwiGLU, requantise.
//
//   hidden  [T', H]     e4m3, gathered: row r of the chunk is token row_to_token[row_base + r]; scales [H/128, T']
//   w13     [L, 2I, H]  e4m3, its two boxes: up rows [i, i + 128) and the gate rows beside them
//   inter   [R, t, I]   e4m3 out      inter_scale [I/128, R, t]  f32 out, t terms a value
//
// A tile is (expert, up to kMaxWidth of its rows, 128 intermediate columns): exactly one requantisation block of each row, so
// that a row's largest value is known when its CTA's two warpgroups have met. A thread's two accumulators are the up and the
// gate of the same values (products.cuh).
#pragma once

#include "contract/requantise.h"
#include "hopper/product_plan.cuh"
#include "hopper/silu.cuh"
#include "ptx/barrier.h"

namespace blockmoe::kernels::hopper {

struct Gemm1 {
  struct Params {
    ProductParams product;
    std::int32_t intermediate;  // I
    std::int32_t up_row;        // first rows of an expert's halves of w13
    std::int32_t gate_row;
    std::uint8_t* inter;
    float* inter_scale;
    std::int64_t inter_rows;  // R
    std::int32_t terms;       // t
  };

  static constexpr int kNumber = 0;
  static constexpr bool kIndexed = true;  // rows are tokens

  static __device__ __forceinline__ BoxRows box_rows(const Params& params, const Tile& tile) {
    const std::int32_t base = tile.columns.expert * 2 * params.intermediate + tile.weight_tile * kBoxRows;
    return {{base + params.up_row, base + params.gate_row}};
  }

  // A row's scales of the tile's block.
  static __device__ __forceinline__ void store_scale(const Params& params, const Tile& tile, std::int32_t row,
                                                     float scale) {
    float* const to = params.inter_scale + (tile.weight_tile * params.inter_rows + row) * params.terms;
    to[0] = scale;
    if (params.terms > 1) to[1] = contract::residual_scale(scale);
  }

  // acc[0] is up, acc[1] gate.
  template <int kWidth, class S>
  static __device__ __forceinline__ void finish(Smem<S>& smem, const Params& params, const Tile& tile, int warpgroup,
                                                float (&acc)[kBoxes][kWidth / 2]) {
    const int thread = ptx::thread_index() - kCopyThreads;
    const int warp = thread / 32, lane = thread % 32;
    const int row =
        warpgroup * ptx::kRowsOfWgmma + warp % 4 * 16 + lane / 4;  // of 128 intermediate columns; and row + 8
    const int column = lane % 4 * 2;                               // of 8 rows of the chunk; and column + 1
    float (&value)[kWidth / 2] = acc[0];

#pragma unroll
    for (int j = 0; j < kWidth / 8; ++j) {
      float largest[2];
#pragma unroll
      for (int c = 0; c < 2; ++c) {
#pragma unroll
        for (int i = 4 * j + c; i < 4 * j + 4; i += 2) value[i] = __fmul_rn(silu(acc[1][i]), value[i]);
        largest[c] = contract::amax_step(contract::amax_step(0.0f, value[4 * j + c]), value[4 * j + 2 + c]);
#pragma unroll
        for (int step = 4; step < 32; step *= 2) {
          largest[c] = fmaxf(largest[c], __shfl_xor_sync(0xffffffffu, largest[c], step));
        }
      }
      if (lane < 4) *reinterpret_cast<float2*>(&smem.amax[warp][8 * j + column]) = make_float2(largest[0], largest[1]);
    }
    ptx::named_barrier_sync(kMultiplyBarrier, kMultiplyThreads);

    const ColumnTile& columns = tile.columns;
    BLOCKMOE_CHECK_OR_TRAP(columns.row >= 0 && columns.row + columns.rows <= params.inter_rows);
    if (thread < kWidth) {
      float largest = 0.0f;
#pragma unroll
      for (int w = 0; w < kMultiplyWarps; ++w) largest = fmaxf(largest, smem.amax[w][thread]);
      const contract::BlockScale scale = contract::block_scale(largest);
      smem.inverse[thread] = scale.inverse;
      if (thread < columns.rows) store_scale(params, tile, columns.row + thread, scale.scale);
    }
    ptx::named_barrier_sync(kMultiplyBarrier, kMultiplyThreads);

    const auto stage = [&](auto&& code_of) {
#pragma unroll
      for (int j = 0; j < kWidth / 8; ++j) {
        const float2 inverse = *reinterpret_cast<const float2*>(&smem.inverse[8 * j + column]);
#pragma unroll
        for (int i = 4 * j; i < 4 * j + 4; ++i) {
          const int n = 8 * j + column + i % 2;
          smem.staging[n * kStagedRowBytes + row + i % 4 / 2 * 8] =
              code_of(value[i], i % 2 == 0 ? inverse.x : inverse.y);
        }
      }
    };
#pragma unroll 1
    for (int term = 0; term < params.terms; ++term) {
      if (term == 0) {
        stage([](float x, float inverse) { return contract::requantise(x, inverse); });
      } else {
        stage([](float x, float inverse) {
          return contract::requantise_residual(x, inverse, contract::requantise(x, inverse));
        });
      }
      ptx::named_barrier_sync(kMultiplyBarrier, kMultiplyThreads);

      constexpr int kChunks = kBoxRows / 16;
      const std::int64_t pitch = static_cast<std::int64_t>(params.intermediate) * params.terms;
      std::uint8_t* const to =
          params.inter + columns.row * pitch + term * params.intermediate + tile.weight_tile * kBoxRows;
#pragma unroll 1
      for (int i = thread; i < columns.rows * kChunks; i += kMultiplyThreads) {
        const int n = i / kChunks, chunk = i % kChunks;
        *reinterpret_cast<uint4*>(to + n * pitch + chunk * 16) =
            *reinterpret_cast<const uint4*>(&smem.staging[n * kStagedRowBytes + chunk * 16]);
      }
      // The next term, a straight tile or one of gemm2 may come next, and its warps stage without waiting for all of these.
      ptx::named_barrier_sync(kMultiplyBarrier, kMultiplyThreads);
    }
  }

  // The same of straight products: a warp has 16 whole rows, so that no warp waits for another.
  template <class S>
  static __device__ __forceinline__ void finish_straight(Smem<S>& smem, const Params& params, const Tile& tile,
                                                         int warpgroup, float (&acc)[kBoxes][kBoxRows / 2]) {
    const StraightRows<S> own(smem, tile, warpgroup);
    float (&value)[kBoxRows / 2] = acc[0];
    float largest[2] = {};
#pragma unroll
    for (int i = 0; i < kBoxRows / 2; ++i) {
      value[i] = __fmul_rn(silu(acc[1][i]), value[i]);
      largest[i % 4 / 2] = contract::amax_step(largest[i % 4 / 2], value[i]);
    }
    BLOCKMOE_CHECK_OR_TRAP(tile.columns.row >= 0 && tile.columns.row + tile.columns.rows <= params.inter_rows);
    float inverse[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float& amax = largest[half];
#pragma unroll
      for (int step = 1; step < 4; step *= 2) amax = fmaxf(amax, __shfl_xor_sync(0xffffffffu, amax, step));
      const contract::BlockScale scale = contract::block_scale(amax);
      inverse[half] = scale.inverse;
      const int row = own.lane / 4 + 8 * half;
      if (own.lane % 4 == 0 && row < own.rows) store_scale(params, tile, own.first_row + row, scale.scale);
    }
    const auto stage = [&](auto&& codes_of) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        std::uint8_t* const staged = own.staging + (own.lane / 4 + 8 * half) * kStagedRowBytes + own.lane % 4 * 2;
#pragma unroll
        for (int j = 0; j < kBoxRows / 8; ++j) {
          const float* const two = &value[4 * j + 2 * half];
          *reinterpret_cast<std::uint16_t*>(staged + 8 * j) = codes_of(two[0], two[1], inverse[half]);
        }
      }
    };
#pragma unroll 1
    for (int term = 0; term < params.terms; ++term) {
      if (term == 0) {
        stage([](float x, float y, float inverse) { return contract::requantise_pair(x, y, inverse); });
      } else {
        stage([](float x, float y, float inverse) {
          return contract::requantise_residual_pair(x, y, inverse, contract::requantise_pair(x, y, inverse));
        });
      }
      own.store(params.inter + term * params.intermediate + tile.weight_tile * kBoxRows,
                static_cast<std::int64_t>(params.intermediate) * params.terms);
    }
  }
};

}  // namespace blockmoe::kernels::hopper
