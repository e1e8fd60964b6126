// gemm2.cu: the down product of each expert's rows.
//
//   inter        [R, t, I]   e4m3      inter_scale [I/128, R, t] f32, t terms a value
//   w2           [L, H, I]   e4m3      w2_scale    [L, H/128, I/128] f32
//   rows         [R, H]      f32 or bf16 out, not yet weighted
//
// A tile is (expert, 256 hidden columns, up to 64 rows): the mainloop's blocks are neighbouring blocks of columns. Where
// H/128 is odd the last tile's second block repeats the first and is not stored. With two terms a tile is up to 32 rows, whose
// second terms stand in the other half of its units: the weights are copied and widened once for both.
#include <cstdint>

#include <cuda_bf16.h>

#include "checked.h"
#include "launch.h"
#include "portable/mainloop.cuh"
#include "portable/portable.h"
#include "portable/shape.h"
#include "trace.h"

namespace blockmoe::kernels::portable {
namespace {

struct Gemm2Params {
  const std::uint8_t* w2;
  const float* w2_scale;
  int hidden;        // H
  int intermediate;  // I
  int experts;       // L
  int chunk;
  std::int64_t row_capacity;  // R
  int terms;                  // t
  stages::Workspace workspace;

  __host__ __device__ int column_blocks() const { return hidden / kBlockColumns; }
  __host__ __device__ int column_tiles() const { return (column_blocks() + kBlocks - 1) / kBlocks; }
};

struct Gemm2Source {
  const Gemm2Params& p;

  __device__ int k_size() const { return p.intermediate; }
  __device__ int terms() const { return p.terms; }

  // Which of inter's R t rows stands in row `row` of the tile's units; negative: none.
  __device__ std::int64_t inter_row(const Tile& tile, int row) const {
    const int first_rows = tile.units() * kUnitRows;
    const int term = row < first_rows ? 0 : 1;
    const int within = row - term * first_rows;
    if (term >= p.terms || within >= tile.rows) return -1;
    return static_cast<std::int64_t>(tile.row_begin + within) * p.terms + term;
  }

  __device__ Operands operands(const Tile& tile) const {
    Operands o;
    const int thread = static_cast<int>(threadIdx.x);
    const int vector = thread % kVectors * 16;
    BLOCKMOE_CHECK(tile.row_begin >= 0 && tile.row_begin + tile.rows <= p.row_capacity);
    BLOCKMOE_CHECK(tile.expert >= 0 && tile.expert < p.experts);
#pragma unroll
    for (int i = 0; i < kTileRows / kRowsAPass; ++i) {
      const std::int64_t row = inter_row(tile, thread / kVectors + i * kRowsAPass);
      if (row >= 0) o.activations[i] = p.workspace.inter + row * p.intermediate + vector;
    }
    const std::int64_t scale_row = thread < kTileRows ? inter_row(tile, thread) : -1;
    if (scale_row >= 0) {
      o.scale = p.workspace.inter_scale + scale_row;
      o.scale_step = p.row_capacity * p.terms;
    }
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
      const int block = min(tile.column * kBlocks + b, p.column_blocks() - 1);
      BLOCKMOE_CHECK(block >= 0 && block < p.column_blocks());
      const std::int64_t row = static_cast<std::int64_t>(tile.expert) * p.column_blocks() + block;
      o.weights[b] = p.w2 + (row * kBlockColumns + thread / kVectors) * p.intermediate + vector;
      if (thread == kTileRows + b) {
        o.scale = p.w2_scale + row * (p.intermediate / kStep);
        o.scale_step = 1;
      }
    }
    return o;
  }
};

__device__ void store_four(const float (&x)[4], float* at) {
  *reinterpret_cast<float4*>(at) = make_float4(x[0], x[1], x[2], x[3]);
}

__device__ void store_four(const float (&x)[4], __nv_bfloat16* at) {
  const __nv_bfloat162 pairs[2] = {__floats2bfloat162_rn(x[0], x[1]), __floats2bfloat162_rn(x[2], x[3])};
  *reinterpret_cast<uint2*>(at) = *reinterpret_cast<const uint2*>(pairs);
}

// The first terms' sums are then the rows'.
__device__ void add_second_terms(const Tile& tile, Sums& sums) {
#pragma unroll
  for (int u = 0; u < kTileUnits / 2; ++u) {
#pragma unroll
    for (int n = 0; n < 4; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float second = tile.units() == 1 ? sums.at[u + 1][n][i] : sums.at[u + 2][n][i];
        sums.at[u][n][i] = __fadd_rn(sums.at[u][n][i], second);
      }
    }
  }
}

template <typename Row>
__device__ void finish_gemm2(const Gemm2Params& p, const Tile& tile, const Sums& sums) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
#pragma unroll
  for (int u = 0; u < kTileUnits; ++u) {
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const int row = row_of(lane, u, 2 * j);
      if (row >= tile.rows) continue;
      BLOCKMOE_CHECK(tile.row_begin + row >= 0 && tile.row_begin + row < p.row_capacity);
      Row* const out = static_cast<Row*>(p.workspace.rows) + static_cast<std::int64_t>(tile.row_begin + row) * p.hidden;
#pragma unroll
      for (int b = 0; b < kBlocks; ++b) {
        const int block = tile.column * kBlocks + b;
        if (block >= p.column_blocks()) continue;
        const float four[4] = {sums.at[u][2 * b][2 * j], sums.at[u][2 * b][2 * j + 1], sums.at[u][2 * b + 1][2 * j],
                               sums.at[u][2 * b + 1][2 * j + 1]};
        BLOCKMOE_CHECK(block >= 0 && (block + 1) * kBlockColumns <= p.hidden);
        store_four(four, out + block * kBlockColumns + warp * 16 + column_of(lane, 0, 0));
      }
    }
  }
}

template <int kStages, typename Row>
__global__ void __launch_bounds__(kThreads, 1) gemm2(const __grid_constant__ Gemm2Params p) {
  if constexpr (kRingIsBuilt<kStages>) {
    extern __shared__ __align__(128) char shared[];
    if (p.workspace.chunks[p.chunk].rows == 0) return;
    Stage* const ring = reinterpret_cast<Stage*>(shared);
    const std::int32_t* const expert_begin =
        p.workspace.expert_begin + static_cast<std::int64_t>(p.chunk) * (p.experts + 1);
    const Schedule schedule =
        Schedule::build(expert_begin, p.experts, p.column_tiles(), p.terms, reinterpret_cast<int*>(ring + kStages));
    run_tiles<kStages>(Gemm2Source{p}, schedule, ring, [&](const Tile& tile, Sums& sums) {
      if (p.terms > 1) add_second_terms(tile, sums);
      finish_gemm2<Row>(p, tile, sums);
    });
  }
}

using Gemm2Kernel = void (*)(Gemm2Params);

template <typename Row>
Gemm2Kernel kernel_of(int stages) {
  return stages == 5 ? gemm2<5, Row> : stages == 3 ? gemm2<3, Row> : gemm2<2, Row>;
}

}  // namespace

Error launch_gemm2(const stages::Slab& slab, std::int32_t chunk, int stages, cudaStream_t stream) {
  const TraceRange range("gemm2");
  const contract::Geometry& g = slab.geometry;
  Gemm2Params p = {};
  p.w2 = slab.weights.w2;
  p.w2_scale = slab.weights.w2_scale;
  p.hidden = static_cast<int>(g.hidden);
  p.intermediate = static_cast<int>(g.intermediate);
  p.experts = g.local_experts;
  p.chunk = chunk;
  p.row_capacity = slab.sizes.row_capacity;
  p.terms = slab.sizes.terms;
  p.workspace = slab.workspace;
  const Gemm2Kernel kernel =
      slab.sizes.row_type == plan::RowType::f32 ? kernel_of<float>(stages) : kernel_of<__nv_bfloat16>(stages);
  return launch_kernel("gemm2", kernel, shape_of_tiles(slab, p.column_tiles(), stages), stream, p);
}

Error prepare_gemm2(int stages) {
  return first_error([&] { return prepare_for_any_shared_memory("gemm2", kernel_of<float>(stages)); },
                     [&] { return prepare_for_any_shared_memory("gemm2", kernel_of<__nv_bfloat16>(stages)); });
}

}  // namespace blockmoe::kernels::portable
