// mainloop.cuh: the product that both grouped products share: up to 64 rows of one expert times two blocks of 128 rows of
// its weights, over all of K.
//
//   activations [rows, K]   e4m3, any row pitch: each row has its own address (gemm1 gathers tokens)
//   weights     [2, 128, K] e4m3, K-major: gemm1's blocks are up and gate of the same columns, gemm2's are neighbours
//   sums        [64, 2, 128] fp32, in registers: sums += (sum over 128 of K) * (activation scale * weight scale)
//
// 8 warps; warp w owns columns 16w..16w + 15 of both blocks and all rows, so that up and gate of a column meet in one
// thread. K goes in steps of 128 through a ring of stages filled by cp.async. The ring does not drain between tiles: a
// thread loads the steps of the next tile while it multiplies the last ones of this.
//
// Codes stay bytes in shared memory and become fp16 in registers. A sum over K may take K in any order as long as both
// operands agree, so a lane takes 16 consecutive bytes of a row (one LDS.128) as its part of four mma steps; no ldmatrix.
//
// Cost of a step with 64 rows, a warp: 128 mma, 192 conversions, 24 LDS.128, 64 fma of promotion. 40 KB come from L2.
#pragma once

#include <cstdint>

#include "portable/schedule.cuh"
#include "portable/tile_shape.h"
#include "ptx/cp_async.h"
#include "ptx/mma.h"

namespace blockmoe::kernels::portable {

inline constexpr int kVectors = kStep / 16;             // 16-byte vectors of a row's step
inline constexpr int kRowsAPass = kThreads / kVectors;  // rows that all threads copy with one vector each

// Lanes 0..7 of an LDS.128 read four vectors each of an even and an odd row: the odd row's halves change places, so that
// the eight lie in different banks.
__device__ __forceinline__ int vector_of(int row, int vector) {
  return vector ^ ((row & 1) << 2);
}

// Where a tile's operands lie, for one thread. A thread copies vector threadIdx.x % 8 of rows threadIdx.x / 8 + 32 i.
struct Operands {
  const std::uint8_t* activations[kTileRows / kRowsAPass] = {};  // the thread's rows, null past the tile's; at K = 0
  const float* activation_scale = nullptr;    // thread i < 64: of row i, at K = 0; null past the tile's rows
  std::int64_t activation_scale_step = 0;     // floats from one 128 of K to the next
  const std::uint8_t* weights[kBlocks] = {};  // row 0 of each block, at K = 0
  const float* weight_scale[kBlocks] = {};    // at K = 0; one float a step
};

// sums[unit][n][i]: element i of mma tile n of 16 rows. Tiles 0 and 1 are block 0's, 2 and 3 are block 1's.
struct Sums {
  float at[kTileUnits][4][4];
};

// Column, within a block and this warp's 16, of element i of mma tile n: a lane's four columns of a row are neighbours.
__device__ __forceinline__ int column_of(int lane, int n, int i) {
  return 4 * (lane % 4) + 2 * (n % 2) + i % 2;
}
// The weight row (column of the product) that column g of mma tile n stands for; inverse of the above.
__device__ __forceinline__ int weight_row_of(int g, int n) {
  return 4 * (g / 2) + 2 * (n % 2) + g % 2;
}
__device__ __forceinline__ int row_of(int lane, int unit, int i) {
  return unit * kUnitRows + lane / 4 + 8 * (i / 2);
}

__device__ __forceinline__ void copy_step(const Operands& from, int step, int k_size, Stage& to) {
  const int thread = static_cast<int>(threadIdx.x);
  const int vector = thread % kVectors;
  const int row = thread / kVectors;
  const int offset = step * kStep + vector * 16;
#pragma unroll
  for (int i = 0; i < kTileRows / kRowsAPass; ++i) {
    const int r = row + i * kRowsAPass;
    if (from.activations[i] != nullptr) {
      ptx::cp_async_16(&to.activations[r][vector_of(r, vector) * 16], from.activations[i] + offset);
    }
  }
#pragma unroll
  for (int b = 0; b < kBlocks; ++b) {
    const std::uint8_t* const first = from.weights[b] + static_cast<std::int64_t>(row) * k_size + offset;
#pragma unroll
    for (int i = 0; i < kBlockColumns / kRowsAPass; ++i) {
      const int r = row + i * kRowsAPass;
      ptx::cp_async_16(&to.weights[b][r][vector_of(r, vector) * 16], first + i * kRowsAPass * k_size);
    }
  }
  if (thread < kTileRows) {
    if (from.activation_scale != nullptr) {
      ptx::cp_async_4(&to.activation_scale[thread], from.activation_scale + step * from.activation_scale_step);
    }
  } else if (thread < kTileRows + kBlocks) {
    const int b = thread - kTileRows;
    ptx::cp_async_4(&to.weight_scale[b], (b == 0 ? from.weight_scale[0] : from.weight_scale[1]) + step);
  }
}

__device__ __forceinline__ std::uint32_t word_of(const uint4& v, int i) {
  return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

__device__ __forceinline__ uint4 load_vector(const std::uint8_t (*rows)[kStep], int row, int vector) {
  return *reinterpret_cast<const uint4*>(&rows[row][vector_of(row, vector) * 16]);
}

// One step of kUnits * 16 rows, and its promotion.
template <int kUnits>
__device__ __forceinline__ void multiply(const Stage& stage, Sums& sums) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int g = lane / 4;
  const int t = lane % 4;
  float partial[kUnits][4][4];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int vector = half * 4 + t;
    uint4 weights[4];
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      weights[n] = load_vector(stage.weights[n / 2], warp * 16 + weight_row_of(g, n), vector);
    }
    uint4 rows[kUnits][2];
#pragma unroll
    for (int u = 0; u < kUnits; ++u) {
      rows[u][0] = load_vector(stage.activations, u * kUnitRows + g, vector);
      rows[u][1] = load_vector(stage.activations, u * kUnitRows + g + 8, vector);
    }
#pragma unroll
    for (int word = 0; word < 4; ++word) {
      std::uint32_t b[4][2];
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        const ptx::HalfPairs wide = ptx::widen_e4m3(word_of(weights[n], word));
        b[n][0] = wide.first;
        b[n][1] = wide.second;
      }
#pragma unroll
      for (int u = 0; u < kUnits; ++u) {
        const ptx::HalfPairs upper = ptx::widen_e4m3(word_of(rows[u][0], word));
        const ptx::HalfPairs lower = ptx::widen_e4m3(word_of(rows[u][1], word));
        const std::uint32_t a[4] = {upper.first, lower.first, upper.second, lower.second};
#pragma unroll
        for (int n = 0; n < 4; ++n) {
          if (half == 0 && word == 0) {
            ptx::mma_m16n8k16_from_zero(partial[u][n], a, b[n]);
          } else {
            ptx::mma_m16n8k16(partial[u][n], a, b[n]);
          }
        }
      }
    }
  }
#pragma unroll
  for (int u = 0; u < kUnits; ++u) {
#pragma unroll
    for (int n = 0; n < 4; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float scale = stage.activation_scale[row_of(lane, u, i)] * stage.weight_scale[n / 2];
        sums.at[u][n][i] = __fmaf_rn(partial[u][n][i], scale, sums.at[u][n][i]);
      }
    }
  }
}

__device__ __forceinline__ void multiply_units(int units, const Stage& stage, Sums& sums) {
  if (units == 1) {
    multiply<1>(stage, sums);
  } else if (units == 2) {
    multiply<2>(stage, sums);
  } else if (units == 3) {
    multiply<3>(stage, sums);
  } else {
    multiply<4>(stage, sums);
  }
}

// The steps of a CTA's tiles in order, as the copies run ahead of the products.
template <typename Source>
struct Cursor {
  int number;  // of the tile
  int step = 0;
  Operands operands;

  __device__ Cursor(int first, const Source& source, const Schedule& schedule) : number(first) {
    open(source, schedule);
  }

  // Copies one step into `stage` and moves on; past the last tile, nothing.
  __device__ void copy_next(const Source& source, const Schedule& schedule, Stage& stage) {
    if (operands.weights[0] != nullptr) {
      copy_step(operands, step, source.k_size(), stage);
      if (++step == source.k_size() / kStep) {
        step = 0;
        number += static_cast<int>(gridDim.x);
        open(source, schedule);
      }
    }
    ptx::cp_async_commit();
  }

 private:
  __device__ void open(const Source& source, const Schedule& schedule) {
    const Tile tile = schedule.tile(number);
    operands = tile.rows > 0 ? source.operands(tile) : Operands{};
  }
};

// All tiles of this CTA. Source: k_size() and operands(tile), which says where this thread finds a tile's operands.
// Finish: called by all threads with a tile and its sums; may use __syncthreads.
template <int kStages, typename Source, typename Finish>
__device__ __forceinline__ void run_tiles(const Source& source, const Schedule& schedule, Stage* ring,
                                          const Finish& finish) {
  const int tiles = schedule.tiles();
  const int steps = source.k_size() / kStep;
  Cursor<Source> cursor(static_cast<int>(blockIdx.x), source, schedule);
  for (int s = 0; s < kStages - 1; ++s) cursor.copy_next(source, schedule, ring[s]);
  int stage = 0;
  for (int number = static_cast<int>(blockIdx.x); number < tiles; number += static_cast<int>(gridDim.x)) {
    const Tile tile = schedule.tile(number);
    Sums sums = {};
    for (int step = 0; step < steps; ++step) {
      ptx::cp_async_wait<kStages - 2>();
      __syncthreads();  // this step has arrived for all threads, and all are done with the stage before it
      cursor.copy_next(source, schedule, ring[stage == 0 ? kStages - 1 : stage - 1]);
      multiply_units(tile.units(), ring[stage], sums);
      stage = stage == kStages - 1 ? 0 : stage + 1;
    }
    finish(tile, sums);
  }
}

}  // namespace blockmoe::kernels::portable
