// mainloop.cuh: the product that both grouped products share: up to 64 rows of one expert times two blocks of 128 rows of
// its weights, over all of K.
//
//   activations [rows, K]   e4m3, any row pitch: each row has its own address (gemm1 gathers tokens)
//   weights     [2, 128, K] e4m3, K-major: gemm1's blocks are up and gate of the same columns, gemm2's are neighbours
//   sums        [64, 2, 128] fp32, in registers: sums += (sum over 128 of K) * (activation scale * weight scale)
//
// 8 warps; warp w owns columns 16w..16w + 15 of both blocks and all rows, so that up and gate of a column meet in one
// thread. K goes in steps of 128 through a ring of stages filled by cp.async, a part between the products of each mma step.
// Each stage has two mbarriers: its copies have arrived, all warps have read it. No __syncthreads in the loop: two warps
// share a tensor core, and one multiplies while the other converts or promotes. The ring does not drain between tiles: a
// thread loads the steps of the next tile while it multiplies the last ones of this.
//
// Codes stay bytes in shared memory and become fp16 in registers. A sum over K may take K in any order as long as both
// operands agree, so a lane takes 16 consecutive bytes of a row (one LDS.128) as its part of four mma steps; no ldmatrix.
//
// Cost of a step with 64 rows, a warp: 128 mma, 192 conversions, 24 LDS.128, 80 fp32 instructions of promotion, 588 in all.
// On an H200 a tensor core needs 6.2 cycles for an mma and loses about one to each conversion: 2000 for two warps' step.
// 40 KB come from L2.
#pragma once

#include <cstdint>

#include "portable/schedule.cuh"
#include "portable/tile_shape.h"
#include "ptx/cp_async.h"
#include "ptx/mbarrier.h"
#include "ptx/mma.h"

namespace blockmoe::kernels::portable {

inline constexpr int kVectors = kStep / 16;             // 16-byte vectors of a row's step
inline constexpr int kRowsAPass = kThreads / kVectors;  // rows that all threads copy with one vector each
inline constexpr int kMmaSteps = kStep / 16;
inline constexpr int kWords = 4;  // of a vector: a lane's part of one mma step each

// Lanes 0..7 of an LDS.128 read four vectors each of an even and an odd row: the odd row's halves change places, so that
// the eight lie in different banks.
__device__ __forceinline__ int vector_of(int row, int vector) {
  return vector ^ ((row & 1) << 2);
}

// Where a tile's operands lie, for one thread: it copies vector threadIdx.x % 8 of rows threadIdx.x / 8 + 32 i, and one
// scale: thread i < 64 row i's, the next two threads a block's each. Null where the thread has nothing to copy.
struct Operands {
  static constexpr int kActivations = kTileRows / kRowsAPass;
  static constexpr int kPasses = kBlockColumns / kRowsAPass;  // over a block of weights
  static constexpr int kParts = kActivations + kBlocks * kPasses;

  const std::uint8_t* activations[kActivations] = {};  // the thread's rows
  const std::uint8_t* weights[kBlocks] = {};           // row threadIdx.x / 8 of each block
  const float* scale = nullptr;
  std::int64_t scale_step = 0;  // floats from one 128 of K to the next

  // A part of the step that the pointers stand at.
  __device__ void copy(int part, int k_size, Stage& to) const {
    const int thread = static_cast<int>(threadIdx.x);
    const int row = thread / kVectors;
    const int vector = vector_of(row, thread % kVectors);  // the same in every pass: kRowsAPass is even
    if (part == 0 && scale != nullptr) ptx::cp_async_4(&to.scales[thread], scale);
    if (part < kActivations) {
      if (activations[part] != nullptr) {
        ptx::cp_async_16(&to.activations[row + part * kRowsAPass][vector * 16], activations[part]);
      }
    } else if (weights[0] != nullptr) {
      const int block = (part - kActivations) / kPasses;
      const int pass = (part - kActivations) % kPasses;
      ptx::cp_async_16(&to.weights[block][row + pass * kRowsAPass][vector * 16],
                       weights[block] + pass * kRowsAPass * k_size);
    }
  }

  __device__ void next_step() {
#pragma unroll
    for (int i = 0; i < kActivations; ++i) {
      if (activations[i] != nullptr) activations[i] += kStep;
    }
    if (weights[0] != nullptr) {
#pragma unroll
      for (int b = 0; b < kBlocks; ++b) weights[b] += kStep;
    }
    if (scale != nullptr) scale += scale_step;
  }
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

__device__ __forceinline__ std::uint32_t word_of(const uint4& v, int i) {
  return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

// What a lane multiplies in the four mma steps of half a step: 16 codes of each of its rows and columns.
template <int kUnits>
struct Codes {
  uint4 weights[4];
  uint4 rows[kUnits][2];

  __device__ void load(const Stage& stage, int half) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int warp = static_cast<int>(threadIdx.x) / 32;
    const int vector = half * 4 + lane % 4;
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      weights[n] = load_vector(stage.weights[n / 2], warp * 16 + weight_row_of(lane / 4, n), vector);
    }
#pragma unroll
    for (int u = 0; u < kUnits; ++u) {
#pragma unroll
      for (int j = 0; j < 2; ++j) rows[u][j] = load_vector(stage.activations, row_of(lane, u, 2 * j), vector);
    }
  }

 private:
  __device__ static uint4 load_vector(const std::uint8_t (*rows)[kStep], int row, int vector) {
    return *reinterpret_cast<const uint4*>(&rows[row][vector_of(row, vector) * 16]);
  }
};

// One mma step of a lane, widened.
template <int kUnits>
struct Halves {
  std::uint32_t a[kUnits][4];
  std::uint32_t b[4][2];

  __device__ Halves(const Codes<kUnits>& codes, int word) {
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      const ptx::HalfPairs wide = ptx::widen_e4m3(word_of(codes.weights[n], word));
      b[n][0] = wide.first;
      b[n][1] = wide.second;
    }
#pragma unroll
    for (int u = 0; u < kUnits; ++u) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const ptx::HalfPairs wide = ptx::widen_e4m3(word_of(codes.rows[u][j], word));
        a[u][j] = wide.first;
        a[u][j + 2] = wide.second;
      }
    }
  }
};

// Scales of a step, of the lane's rows and of the blocks.
template <int kUnits>
struct Scales {
  float rows[kUnits][2];
  float blocks[kBlocks];

  __device__ void load(const Stage& stage) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int u = 0; u < kUnits; ++u) {
#pragma unroll
      for (int j = 0; j < 2; ++j) rows[u][j] = stage.scales[row_of(lane, u, 2 * j)];
    }
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) blocks[b] = stage.scales[kTileRows + b];
  }
};

// The steps of a CTA's tiles in order, as the copies run ahead of the products.
template <typename Source>
struct Cursor {
  int number;  // of the tile
  int step = 0;
  Operands operands;  // all null past the last tile

  __device__ Cursor(int first, const Source& source, const Schedule& schedule) : number(first) {
    open(source, schedule);
  }

  __device__ void advance(const Source& source, const Schedule& schedule) {
    if (++step < source.k_size() / kStep) {
      operands.next_step();
      return;
    }
    step = 0;
    number += static_cast<int>(gridDim.x);
    open(source, schedule);
  }

 private:
  __device__ void open(const Source& source, const Schedule& schedule) {
    const Tile tile = schedule.tile(number);
    operands = tile.rows > 0 ? source.operands(tile) : Operands{};
  }
};

// The ring, and where this warp is in it: the products read stage `now`, the copies fill the one before it. Warps do not
// meet: each goes on as soon as a stage has arrived, or is free, so that one multiplies while another converts or promotes.
template <int kStages>
class Ring {
 public:
  // By all threads of the CTA. `barriers` are 2 * kStages mbarriers.
  __device__ Ring(Stage* stages, std::uint64_t* barriers)
      : stages_(stages), arrived_(barriers), read_(barriers + kStages) {
    if (threadIdx.x == 0) {
      for (int i = 0; i < kStages; ++i) {
        ptx::mbarrier_init(&arrived_[i], kThreads);
        ptx::mbarrier_init(&read_[i], kWarps);
      }
    }
    __syncthreads();
  }

  __device__ const Stage& now() const { return stages_[now_]; }
  __device__ Stage& before() const { return stages_[index_before()]; }

  // Says of the stage before `now`, or at the start of stage `i`, that this thread has copied what it has to.
  __device__ void copied() const { ptx::cp_async_mbarrier_arrive(&arrived_[index_before()]); }
  __device__ void copied(int i) const { ptx::cp_async_mbarrier_arrive(&arrived_[i]); }
  __device__ void wait_arrived() const { wait(arrived_[now_], parity_); }

  // This warp has read all of `now`, and goes on to the next stage.
  __device__ void advance() {
    __syncwarp();
    if (threadIdx.x % 32 == 0) ptx::mbarrier_arrive(&read_[now_]);
    now_ = now_ == kStages - 1 ? 0 : now_ + 1;
    if (now_ == 0) parity_ ^= 1;
  }
  // Until all warps have read the stage before `now`; true from the start of a stage that nobody has filled.
  __device__ void wait_before_read() const { wait(read_[index_before()], now_ == 0 ? parity_ ^ 1 : parity_); }

 private:
  __device__ int index_before() const { return now_ == 0 ? kStages - 1 : now_ - 1; }
  __device__ static void wait(std::uint64_t& barrier, std::uint32_t parity) {
    while (!ptx::mbarrier_test_wait_parity(&barrier, parity)) {
    }
  }

  Stage* stages_;
  std::uint64_t* arrived_;  // of kThreads
  std::uint64_t* read_;     // by kWarps
  int now_ = 0;
  std::uint32_t parity_ = 0;  // of the times that `now` has been filled
};

// All steps of a tile of kUnits * 16 rows.
template <int kUnits, int kStages, typename Source>
__device__ __forceinline__ void multiply(const Source& source, const Schedule& schedule, Cursor<Source>& cursor,
                                         Ring<kStages>& ring, Sums& sums) {
  constexpr int kPartsAMmaStep = 2;
  static_assert(Operands::kParts <= kPartsAMmaStep * kMmaSteps);
  const int steps = source.k_size() / kStep;
  Codes<kUnits> codes;
  codes.load(ring.now(), 0);
  for (int step = 0; step < steps; ++step) {
    Scales<kUnits> scales;
    float partial[kUnits][4][4];
#pragma unroll
    for (int mma_step = 0; mma_step < kMmaSteps; ++mma_step) {
      if (mma_step == 0) ring.wait_before_read();
      const Halves<kUnits> halves(codes, mma_step % kWords);
      if (mma_step == kWords - 1) codes.load(ring.now(), 1);
#pragma unroll
      for (int i = 0; i < kPartsAMmaStep; ++i) {
        const int part = mma_step * kPartsAMmaStep + i;
        if (part < Operands::kParts) cursor.operands.copy(part, source.k_size(), ring.before());
      }
      if (mma_step == kMmaSteps - 1) {
        // All of the stage is in registers. The next one's codes are on their way before this one's last products.
        scales.load(ring.now());
        ring.copied();
        ring.advance();
        ring.wait_arrived();
        codes.load(ring.now(), 0);
      }
#pragma unroll
      for (int u = 0; u < kUnits; ++u) {
#pragma unroll
        for (int n = 0; n < 4; ++n) {
          if (mma_step == 0) {
            ptx::mma_m16n8k16_from_zero(partial[u][n], halves.a[u], halves.b[n]);
          } else {
            ptx::mma_m16n8k16(partial[u][n], halves.a[u], halves.b[n]);
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
          const float scale = scales.rows[u][i / 2] * scales.blocks[n / 2];
          sums.at[u][n][i] = __fmaf_rn(partial[u][n][i], scale, sums.at[u][n][i]);
        }
      }
    }
    cursor.advance(source, schedule);
  }
}

// All tiles of this CTA. Source: k_size(), terms() and operands(tile), which says where this thread finds a tile's operands. With
// two terms, the second ones of a tile of n units stand in units n to 2 n - 1, and so do their sums.
// Finish: called by all threads with a tile and its sums; may use __syncthreads.
template <int kStages, typename Source, typename Finish>
__device__ __forceinline__ void run_tiles(const Source& source, const Schedule& schedule, Stage* stages,
                                          const Finish& finish) {
  __shared__ std::uint64_t barriers[2 * kStages];
  const int tiles = schedule.tiles();
  Ring<kStages> ring(stages, barriers);
  Cursor<Source> cursor(static_cast<int>(blockIdx.x), source, schedule);
  for (int s = 0; s < kStages - 1; ++s) {
#pragma unroll
    for (int part = 0; part < Operands::kParts; ++part) cursor.operands.copy(part, source.k_size(), stages[s]);
    ring.copied(s);
    cursor.advance(source, schedule);
  }
  ring.wait_arrived();
  for (int number = static_cast<int>(blockIdx.x); number < tiles; number += static_cast<int>(gridDim.x)) {
    const Tile tile = schedule.tile(number);
    Sums sums = {};
    switch (tile.units() * source.terms()) {
      case 1:
        multiply<1>(source, schedule, cursor, ring, sums);
        break;
      case 2:
        multiply<2>(source, schedule, cursor, ring, sums);
        break;
      case 3:
        multiply<3>(source, schedule, cursor, ring, sums);
        break;
      default:
        multiply<4>(source, schedule, cursor, ring, sums);
        break;
    }
    finish(tile, sums);
  }
}

}  // namespace blockmoe::kernels::portable
