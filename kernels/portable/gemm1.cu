// gemm1.cu: gate and up products of each expert's rows, SwiGLU, requantise.
//
//   hidden       [T', H]       e4m3, gathered: row r of a tile is token row_to_token[row_base + r]
//   hidden_scale [H/128, T']   f32
//   w13          [L, 2I, H]    e4m3        w13_scale [L, 2I/128, H/128] f32
//   inter        [R, t, I]     e4m3 out    inter_scale [I/128, R, t] f32 out, t terms a value
//
// A tile is (expert, 128 intermediate columns, up to 64 rows): block 0 of the mainloop is up, block 1 is gate of the same
// columns, so that a thread holds both factors of its values, and a CTA all 128 values that share a scale.
#include <cstdint>

#include "checked.h"
#include "contract/requantise.h"
#include "launch.h"
#include "portable/mainloop.cuh"
#include "portable/portable.h"
#include "portable/shape.h"
#include "stages/sigmoid.cuh"
#include "trace.h"

namespace blockmoe::kernels::portable {
namespace {

struct Gemm1Params {
  const std::uint8_t* hidden;
  std::int64_t hidden_pitch;
  const float* hidden_scale;
  std::int64_t hidden_scale_pitch;
  const std::uint8_t* w13;
  const float* w13_scale;
  int hidden_size;   // H
  int intermediate;  // I
  int up_row;        // of an expert's 2I rows
  int gate_row;
  int experts;  // L
  int chunk;
  int tokens;                 // T'
  std::int64_t row_capacity;  // R
  int inter_terms;            // t
  stages::Workspace workspace;
};

struct Gemm1Source {
  const Gemm1Params& p;
  const std::int32_t* row_to_token;  // of the chunk

  __device__ int k_size() const { return p.hidden_size; }
  static __device__ constexpr int terms() { return 1; }

  __device__ int token_of(const Tile& tile, int row) const {
    const int token = row_to_token[tile.row_begin + row];
    BLOCKMOE_CHECK(token >= 0 && token < p.tokens);
    return token;
  }

  __device__ Operands operands(const Tile& tile) const {
    Operands o;
    BLOCKMOE_CHECK(tile.expert >= 0 && tile.expert < p.experts);
    const int thread = static_cast<int>(threadIdx.x);
    const int vector = thread % kVectors * 16;
#pragma unroll
    for (int i = 0; i < kTileRows / kRowsAPass; ++i) {
      const int row = thread / kVectors + i * kRowsAPass;
      if (row < tile.rows) o.activations[i] = p.hidden + token_of(tile, row) * p.hidden_pitch + vector;
    }
    if (thread < tile.rows) {
      o.scale = p.hidden_scale + token_of(tile, thread);
      o.scale_step = p.hidden_scale_pitch;
    }
    const int first[kBlocks] = {p.up_row + tile.column * kBlockColumns, p.gate_row + tile.column * kBlockColumns};
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
      BLOCKMOE_CHECK(first[b] >= 0 && first[b] + kBlockColumns <= 2 * p.intermediate);
      const std::int64_t row = static_cast<std::int64_t>(tile.expert) * 2 * p.intermediate + first[b];
      o.weights[b] = p.w13 + (row + thread / kVectors) * p.hidden_size + vector;
      if (thread == kTileRows + b) {
        o.scale = p.w13_scale + row / kBlockColumns * (p.hidden_size / kStep);
        o.scale_step = 1;
      }
    }
    return o;
  }
};

__device__ float swiglu(float gate, float up) {
  return __fmul_rn(__fmul_rn(gate, stages::sigmoid(gate)), up);
}

// The largest magnitude of each row of the tile, over the 128 columns: first a lane's, a quad's, then the warps'.
// values[unit][j] are the lane's four columns of row (unit, upper or lower) = row_of(lane, unit, 2 j).
__device__ void row_maxima(const float (&values)[kTileUnits][2][4], float (*of_warp)[kTileRows],
                           float (&amax)[kTileUnits][2]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  __syncthreads();  // all warps have read the tile before
#pragma unroll
  for (int u = 0; u < kTileUnits; ++u) {
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      float largest = 0.0f;
#pragma unroll
      for (int c = 0; c < 4; ++c) largest = contract::amax_step(largest, values[u][j][c]);
      largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 1));
      largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 2));
      if (lane % 4 == 0) of_warp[warp][row_of(lane, u, 2 * j)] = largest;
    }
  }
  __syncthreads();
#pragma unroll
  for (int u = 0; u < kTileUnits; ++u) {
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const int row = row_of(lane, u, 2 * j);
      float largest = fmaxf(of_warp[lane % 4][row], of_warp[lane % 4 + 4][row]);
      largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 1));
      amax[u][j] = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 2));
    }
  }
}

__device__ void finish_gemm1(const Gemm1Params& p, const Tile& tile, const Sums& sums, float (*of_warp)[kTileRows]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  float values[kTileUnits][2][4];
#pragma unroll
  for (int u = 0; u < kTileUnits; ++u) {
#pragma unroll
    for (int j = 0; j < 2; ++j) {
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        const int n = c / 2;
        const int i = 2 * j + c % 2;
        values[u][j][c] = u < tile.units() ? swiglu(sums.at[u][n + 2][i], sums.at[u][n][i]) : 0.0f;
      }
    }
  }
  float amax[kTileUnits][2];
  row_maxima(values, of_warp, amax);
#pragma unroll
  for (int u = 0; u < kTileUnits; ++u) {
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const int row = row_of(lane, u, 2 * j);
      if (row >= tile.rows) continue;
      const std::int64_t out = tile.row_begin + row;
      BLOCKMOE_CHECK(out >= 0 && out < p.row_capacity);
      const contract::BlockScale scale = contract::block_scale(amax[u][j]);
      std::uint32_t codes = 0;
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        codes |= static_cast<std::uint32_t>(contract::requantise(values[u][j][c], scale.inverse)) << (8 * c);
      }
      const int column = tile.column * kBlockColumns + warp * 16 + column_of(lane, 0, 0);
      BLOCKMOE_CHECK(column >= 0 && column + 4 <= p.intermediate);
      std::uint8_t* const to = p.workspace.inter + out * p.inter_terms * p.intermediate + column;
      float* const scale_to = p.workspace.inter_scale + (tile.column * p.row_capacity + out) * p.inter_terms;
      const bool has_scale = warp == 0 && lane % 4 == 0;
      *reinterpret_cast<std::uint32_t*>(to) = codes;
      if (has_scale) scale_to[0] = scale.scale;
      if (p.inter_terms > 1) {
        std::uint32_t residuals = 0;
#pragma unroll
        for (int c = 0; c < 4; ++c) {
          const auto code = static_cast<std::uint8_t>(codes >> (8 * c));
          residuals |= static_cast<std::uint32_t>(contract::requantise_residual(values[u][j][c], scale.inverse, code))
                       << (8 * c);
        }
        *reinterpret_cast<std::uint32_t*>(to + p.intermediate) = residuals;
        if (has_scale) scale_to[1] = contract::residual_scale(scale.scale);
      }
    }
  }
}

template <int kStages>
__global__ void __launch_bounds__(kThreads, 1) gemm1(const __grid_constant__ Gemm1Params p) {
  if constexpr (kRingIsBuilt<kStages>) {
    extern __shared__ __align__(128) char shared[];
    __shared__ float of_warp[kWarps][kTileRows];
    const stages::Chunk chunk = p.workspace.chunks[p.chunk];
    if (chunk.rows == 0) return;
    Stage* const ring = reinterpret_cast<Stage*>(shared);
    const std::int32_t* const expert_begin =
        p.workspace.expert_begin + static_cast<std::int64_t>(p.chunk) * (p.experts + 1);
    const Schedule schedule = Schedule::build(expert_begin, p.experts, p.intermediate / kBlockColumns,
                                              Gemm1Source::terms(), reinterpret_cast<int*>(ring + kStages));
    const Gemm1Source source{p, p.workspace.row_to_token + chunk.row_base};
    run_tiles<kStages>(source, schedule, ring,
                       [&](const Tile& tile, const Sums& sums) { finish_gemm1(p, tile, sums, of_warp); });
  }
}

using Gemm1Kernel = void (*)(Gemm1Params);

Gemm1Kernel kernel_of(int stages) {
  return stages == 5 ? gemm1<5> : stages == 3 ? gemm1<3> : gemm1<2>;
}

}  // namespace

Error launch_gemm1(const stages::Slab& slab, std::int32_t chunk, int stages, cudaStream_t stream) {
  const TraceRange range("gemm1");
  const contract::Geometry& g = slab.geometry;
  Gemm1Params p = {};
  p.hidden = slab.activations.hidden;
  p.hidden_pitch = slab.activations.hidden_pitch;
  p.hidden_scale = slab.activations.hidden_scale;
  p.hidden_scale_pitch = slab.activations.hidden_scale_pitch;
  p.w13 = slab.weights.w13;
  p.w13_scale = slab.weights.w13_scale;
  p.hidden_size = static_cast<int>(g.hidden);
  p.intermediate = static_cast<int>(g.intermediate);
  p.up_row = static_cast<int>(slab.weights.up_row(g.intermediate));
  p.gate_row = static_cast<int>(slab.weights.gate_row(g.intermediate));
  p.experts = g.local_experts;
  p.chunk = chunk;
  p.tokens = static_cast<int>(slab.activations.tokens);
  p.row_capacity = slab.sizes.row_capacity;
  p.inter_terms = slab.sizes.terms;
  p.workspace = slab.workspace;
  return launch_kernel("gemm1", kernel_of(stages), shape_of_tiles(slab, g.intermediate_blocks(), stages), stream, p);
}

Error prepare_gemm1(int stages) {
  return prepare_for_any_shared_memory("gemm1", kernel_of(stages));
}

}  // namespace blockmoe::kernels::portable
