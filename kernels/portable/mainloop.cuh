// mainloop.cuh: the product that both grouped products share: up to 64 rows of one expert times two blocks of 128 rows of
// its weights, over all of K.
//
//   activations [rows, K]   e4m3, any row pitch: each row has its own address (gemm1 gathers tokens)
//   weights     [2, 128, K] e4m3, K-major: gemm1's blocks are up and gate of the same columns, gemm2's are neighbours
//   sums        [64, 2, 128] fp32, in registers: sums += (sum over 128 of K) * (activation scale * weight scale)
//
// 8 warps; warp w owns columns 16w..16w + 15 of both blocks and all rows, so that up and gate of a column meet in one
// thread. K goes in steps of 128, and nothing drains between tiles: what runs ahead of the products goes on with the next
// tile while they finish this one.
//
// Weights come through a ring of stages filled by cp.async and become fp16 in the registers of the one warp that owns them.
// Activations are needed by all warps, so they are widened once: a thread loads its part of a step into registers two steps
// ahead, and one step ahead it leaves them in shared memory as fp16, as fragments of mma. One __syncthreads a step.
//
// A sum over K may take K in any order as long as both operands agree, so a lane takes 16 consecutive bytes of a row (one
// 16-byte load) as its part of four mma steps; no ldmatrix.
#pragma once

#include <cstdint>

#include "portable/schedule.cuh"
#include "portable/tile_shape.h"
#include "ptx/cp_async.h"
#include "ptx/mma.h"
#include "ptx/prefetch.h"

namespace blockmoe::kernels::portable {

inline constexpr int kVectors = kStep / 16;             // 16-byte vectors of a row's step
inline constexpr int kRowsAPass = kThreads / kVectors;  // rows that all threads copy with one vector each
inline constexpr int kWords = 4;                        // of a vector: four codes each, a lane's part of an mma step

// Lanes 0..7 of an LDS.128 read four vectors each of an even and an odd row: the odd row's halves change places, so that
// the eight lie in different banks.
__device__ __forceinline__ int vector_of(int row, int vector) {
  return vector ^ ((row & 1) << 2);
}

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

// Four codes of word `word` of a vector, as fp16. Both operands come through here, so they agree on the order of K.
__device__ __forceinline__ ptx::HalfPairs widen(const uint4& vector, int word) {
  return ptx::widen_e4m3(word_of(vector, word));
}

// A place among the steps of a CTA's tiles in order, and what a thread knows there of an operand that runs ahead of the
// products. Past the last tile, Operand{}.
template <typename Operand, typename Source>
class Cursor {
 public:
  __device__ Cursor(const Source& source, const Schedule& schedule) : source_(source), schedule_(schedule) { open(); }

  __device__ const Operand& operand() const { return operand_; }
  __device__ int step() const { return step_; }

  __device__ void advance() {
    if (++step_ < source_.k_size() / kStep) return;
    step_ = 0;
    number_ += static_cast<int>(gridDim.x);
    open();
  }

 private:
  __device__ void open() {
    operand_ = Operand{};
    const Tile tile = schedule_.tile(number_);
    if (tile.rows > 0) source_.open(tile, operand_);
  }

  const Source& source_;
  const Schedule& schedule_;
  int number_ = static_cast<int>(blockIdx.x);
  int step_ = 0;
  Operand operand_;
};

// The part of a tile that goes through the ring. A thread copies vector threadIdx.x % 8 of rows threadIdx.x / 8 + 32 i of
// both blocks, and one scale: thread i < 64 row i's activation scale, the next two threads a weight scale each.
struct Streamed {
  const std::uint8_t* weights[kBlocks] = {};  // the thread's vector of row threadIdx.x / 8, at K = 0
  const float* scale = nullptr;               // at K = 0; null where the thread has none
  std::int64_t scale_step = 0;                // floats from one 128 of K to the next
};

inline constexpr int kPartsABlock = kBlockColumns / kRowsAPass;
inline constexpr int kParts = kBlocks * kPartsABlock;  // 16-byte copies of a thread a step
static_assert(kParts == kMmaSteps, "one between the products of each mma step");

// Where a thread's vector of row threadIdx.x / 8 begins, from the first row of a block.
__device__ __forceinline__ std::int64_t streamed_offset(int k_size) {
  const int thread = static_cast<int>(threadIdx.x);
  return static_cast<std::int64_t>(thread / kVectors) * k_size + thread % kVectors * 16;
}

template <typename Source>
class Stream {
 public:
  __device__ Stream(const Source& source, const Schedule& schedule)
      : rows_apart_(kRowsAPass * source.k_size()), cursor_(source, schedule) {}

  // Copies a part of the next step into `stage`; past the last tile, nothing.
  __device__ void copy(int part, Stage& stage) const {
    const Streamed& from = cursor_.operand();
    const int thread = static_cast<int>(threadIdx.x);
    if (part == 0 && from.scale != nullptr) {
      ptx::cp_async_4(&stage.scales[thread], from.scale + cursor_.step() * from.scale_step);
    }
    const int block = part / kPartsABlock;
    const int pass = part % kPartsABlock;
    const int row = thread / kVectors;
    const std::uint8_t* const weights = block == 0 ? from.weights[0] : from.weights[1];
    if (weights != nullptr) {
      // kRowsAPass is even, so all passes swizzle alike.
      std::uint8_t* const to = &stage.weights[block][row][vector_of(row, thread % kVectors) * 16];
      ptx::cp_async_16(to + pass * kRowsAPass * kStep, weights + cursor_.step() * kStep + pass * rows_apart_);
    }
  }

  // After the last part.
  __device__ void next_step() {
    ptx::cp_async_commit();
    cursor_.advance();
  }

 private:
  int rows_apart_;  // bytes
  Cursor<Streamed, Source> cursor_;
};

// The part of a tile's activations that a thread widens: lane (g, t) of warp w takes vector t of half w % 2 of rows g and
// g + 8 of unit w / 2, which are what lane (g, t) of every warp multiplies in the four mma steps of that half.
__device__ __forceinline__ int gathered_unit() {
  return static_cast<int>(threadIdx.x) / 64;
}
__device__ __forceinline__ int gathered_half() {
  return static_cast<int>(threadIdx.x) / 32 % 2;
}
__device__ __forceinline__ int gathered_vector() {
  return gathered_half() * 4 + static_cast<int>(threadIdx.x) % 4;
}
__device__ __forceinline__ int gathered_row(int i) {
  return row_of(static_cast<int>(threadIdx.x) % 32, gathered_unit(), 2 * i);
}

struct Gathered {
  const std::uint8_t* rows[2] = {};  // gathered_row(0 and 1), at K = 0; null past the tile's rows
  bool has_unit = false;             // the tile has rows of gathered_unit()
};

template <typename Source>
class Gather {
 public:
  __device__ Gather(const Source& source, const Schedule& schedule)
      : steps_(source.k_size() / kStep), cursor_(source, schedule) {
    touch(0);
    load();
    next_step();
  }

  // Whether what load() brought is of any use: a warp may have no unit.
  __device__ bool has_unit() const { return has_unit_; }

  // What load() brought, as fragments of its step.
  __device__ void store(Fragments& to) const {
#pragma unroll
    for (int word = 0; word < kWords; ++word) {
      const ptx::HalfPairs upper = widen(codes_[0], word);
      const ptx::HalfPairs lower = widen(codes_[1], word);
      *reinterpret_cast<uint4*>(to.at[gathered_unit()][gathered_half() * kWords + word][threadIdx.x % 32]) =
          make_uint4(upper.first, lower.first, upper.second, lower.second);
    }
  }

  // Loads the part of the next step; next_step() follows.
  __device__ void load() {
    const int offset = cursor_.step() * kStep + gathered_vector() * 16;
    has_unit_ = cursor_.operand().has_unit;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      codes_[i] = make_uint4(0, 0, 0, 0);
      const std::uint8_t* const row = cursor_.operand().rows[i];
      if (row != nullptr) codes_[i] = __ldg(reinterpret_cast<const uint4*>(row + offset));
    }
  }
  __device__ void next_step() {
    cursor_.advance();
    if (cursor_.step() % kTouched == 0) touch(cursor_.step() + kTouched);
  }

 private:
  // A load is one step ahead, enough for L2 but not for memory: so rows are called to L2 earlier, a line by each of the
  // threads that share a row.
  static constexpr int kTouched = kVectors;

  __device__ void touch(int first_step) const {
    const int step = first_step + gathered_vector();
    if (step >= steps_) return;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const std::uint8_t* const row = cursor_.operand().rows[i];
      if (row != nullptr) ptx::prefetch_l2(row + step * kStep);
    }
  }

  int steps_;
  Cursor<Gathered, Source> cursor_;
  uint4 codes_[2];
  bool has_unit_;
};

// One step of kUnits * 16 rows, and its promotion. aside(mma_step, kUnits) is called between the products of the mma steps:
// it has copies and conversions for later steps, which go on beside them.
template <int kUnits, typename Aside>
__device__ __forceinline__ void multiply(const Stage& stage, const Fragments& activations, Sums& sums,
                                         const Aside& aside) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  uint4 weights[2][4];    // of each half: the lane's vector of the four columns that it has a part in
  uint4 rows[2][kUnits];  // operand a of the mma step at hand and of the next
  const auto load_weights = [&](int half) {
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      const int row = warp * 16 + weight_row_of(lane / 4, n);
      const int vector = vector_of(row, half * 4 + lane % 4);
      weights[half][n] = *reinterpret_cast<const uint4*>(&stage.weights[n / 2][row][vector * 16]);
    }
  };
  const auto load_rows = [&](int step) {
#pragma unroll
    for (int u = 0; u < kUnits; ++u) {
      rows[step % 2][u] = *reinterpret_cast<const uint4*>(activations.at[u][step][lane]);
    }
  };
  load_weights(0);
  load_rows(0);
  float partial[kUnits][4][4];
#pragma unroll
  for (int step = 0; step < kMmaSteps; ++step) {
    if (step + 1 < kMmaSteps) load_rows(step + 1);
    if (step + 1 == kWords) load_weights(1);
    aside(step, kUnits);
    std::uint32_t b[4][2];
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      const ptx::HalfPairs wide = widen(weights[step / kWords][n], step % kWords);
      b[n][0] = wide.first;
      b[n][1] = wide.second;
    }
#pragma unroll
    for (int u = 0; u < kUnits; ++u) {
      const uint4& row = rows[step % 2][u];
      const std::uint32_t a[4] = {row.x, row.y, row.z, row.w};
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        if (step == 0) {
          ptx::mma_m16n8k16_from_zero(partial[u][n], a, b[n]);
        } else {
          ptx::mma_m16n8k16(partial[u][n], a, b[n]);
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
        const float scale = stage.scales[row_of(lane, u, i)] * stage.scales[kTileRows + n / 2];
        sums.at[u][n][i] = __fmaf_rn(partial[u][n][i], scale, sums.at[u][n][i]);
      }
    }
  }
}

template <typename Aside>
__device__ __forceinline__ void multiply_units(int units, const Stage& stage, const Fragments& activations, Sums& sums,
                                               const Aside& aside) {
  if (units == 4) {
    multiply<4>(stage, activations, sums, aside);
  } else if (units == 1) {
    multiply<1>(stage, activations, sums, aside);
  } else if (units == 2) {
    multiply<2>(stage, activations, sums, aside);
  } else {
    multiply<3>(stage, activations, sums, aside);
  }
}

// All tiles of this CTA. Source: k_size(), and open(tile, operand), which says where this thread finds a tile's operands.
// Finish: called by all threads with a tile, its sums and the fragments that no step needs any more once all threads have
// come that far; may use __syncthreads.
template <int kStages, typename Source, typename Finish>
__device__ __forceinline__ void run_tiles(const Source& source, const Schedule& schedule, Shared<kStages>& shared,
                                          const Finish& finish) {
  constexpr bool kAhead = Shared<kStages>::kAhead;
  const int tiles = schedule.tiles();
  const int steps = source.k_size() / kStep;
  Stream<Source> stream(source, schedule);
  Gather<Source> gather(source, schedule);
  for (int s = 0; s < kStages - 1; ++s) {
#pragma unroll
    for (int part = 0; part < kParts; ++part) stream.copy(part, shared.ring[s]);
    stream.next_step();
  }
  const auto gather_step = [&](Fragments& to) {
    gather.store(to);
    gather.load();
    gather.next_step();
  };
  if constexpr (kAhead) gather_step(shared.fragments[0]);
  int stage = 0;
  int now = 0;  // the step's fragments
  for (int number = static_cast<int>(blockIdx.x); number < tiles; number += static_cast<int>(gridDim.x)) {
    const Tile tile = schedule.tile(number);
    Sums sums = {};
    for (int step = 0; step < steps; ++step) {
      ptx::cp_async_wait<kStages - 2>();
      __syncthreads();  // this step has arrived for all threads, and all are done with the stage and fragments before it
      Stage& freed = shared.ring[stage == 0 ? kStages - 1 : stage - 1];
      if constexpr (kAhead) {
        const auto aside = [&](int mma_step, int units) {
          stream.copy(mma_step, freed);
          if (mma_step != 1) return;
          if (units == kTileUnits || gather.has_unit()) gather.store(shared.fragments[now ^ 1]);
          gather.load();
        };
        multiply_units(tile.units(), shared.ring[stage], shared.fragments[now], sums, aside);
        gather.next_step();
        now ^= 1;
      } else {
        gather_step(shared.fragments[0]);
        __syncthreads();
        const auto aside = [&](int mma_step, int) { stream.copy(mma_step, freed); };
        multiply_units(tile.units(), shared.ring[stage], shared.fragments[0], sums, aside);
      }
      stream.next_step();
      stage = stage == kStages - 1 ? 0 : stage + 1;
    }
    finish(tile, sums, shared.fragments[kAhead ? now ^ 1 : 0]);
  }
}

}  // namespace blockmoe::kernels::portable
