// arguments.cu: from pack's counts to the products' arguments: where each expert's rows begin, which implementation and which tile
// takes them, and CUTLASS's groups.
//
//   chunk, expert_begin [L + 1]
//   row_begin, mma_begin [L + 1], tables of both products   out: every element, whatever the counts
//
// One CTA: a warp sums the padded counts, then each thread writes the groups of its experts. An expert without rows, and every expert
// of an implementation or tile that was not chosen, becomes a group without rows, for which no CTA finds work.
#include <cstdint>

#include "blackwell/arguments.h"
#include "checked.h"
#include "launch.h"
#include "trace.h"

namespace blockmoe::kernels::blackwell {
namespace {

constexpr int kThreads = 256;
constexpr unsigned kAllLanes = 0xffffffffu;

struct ProductSide {
  std::int64_t columns;  // N
  std::int64_t depth;    // K
  const std::uint8_t* rows;
  const float* row_scale;
  const std::uint8_t* weights;
  const float* weight_scale;
  char* output;
  std::int64_t output_bytes;  // of an element
  bool output_f32;
  ProductTables tables;
};

struct ArgumentParams {
  const stages::Chunk* chunk;
  const std::int32_t* expert_begin;
  std::int32_t experts;  // L
  std::int32_t row_padding;
  std::int64_t row_capacity;
  std::int64_t tokens;  // T
  plan::ImplementationRule rule;
  plan::TileTable tiles;
  bool swapped[plan::kMostTiles];
  std::int32_t* row_begin;
  std::int32_t* mma_begin;
  ProductSide products[plan::kProducts];
};

__device__ int rows_of(const ArgumentParams& p, int expert) {
  return p.expert_begin[expert + 1] - p.expert_begin[expert];
}

// By one warp.
__device__ void sum_padded_rows(const ArgumentParams& p) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  std::int32_t begin = 0;
  for (int base = 0; base < p.experts; base += 32) {
    const int e = base + lane;
    const std::int32_t rows = e < p.experts ? rows_of(p, e) : 0;
    const std::int32_t padded = (rows + p.row_padding - 1) / p.row_padding * p.row_padding;
    std::int32_t end = padded;
#pragma unroll
    for (int distance = 1; distance < 32; distance *= 2) {
      const std::int32_t before = __shfl_up_sync(kAllLanes, end, static_cast<unsigned>(distance), 32);
      if (lane >= distance) end += before;
    }
    if (e < p.experts) p.row_begin[e] = begin + end - padded;
    begin += __shfl_sync(kAllLanes, end, 31);
  }
  BLOCKMOE_CHECK(begin <= p.row_capacity);
  if (lane == 0) p.row_begin[p.experts] = begin;
}

__device__ void write_group(const ArgumentParams& p, const ProductSide& product, plan::Implementation chosen,
                            std::int32_t scale_pitch, int e) {
  const ProductTables& t = product.tables;
  const auto rows = static_cast<std::int32_t>(rows_of(p, e));
  const std::int64_t first = p.row_begin[e];
  const auto columns = static_cast<std::int32_t>(product.columns);
  const auto depth = static_cast<std::int32_t>(product.depth);
  const std::int32_t column_blocks = columns / static_cast<std::int32_t>(contract::kScaleBlock);
  const std::int32_t depth_blocks = depth / static_cast<std::int32_t>(contract::kScaleBlock);
  for (int i = 0; i < plan::kImplementations; ++i) {
    t.row_count[i][e] = static_cast<plan::Implementation>(i) == chosen ? rows : 0;
  }
  const std::int32_t tile = p.tiles.index_of(p.chunk->rows, rows);
  for (int i = 0; i < p.tiles.count; ++i) {
    const std::int32_t taken = chosen == plan::Implementation::cutlass && i == tile ? rows : 0;
    t.shapes[i][e] = p.swapped[i] ? GroupShape{columns, taken, depth} : GroupShape{taken, columns, depth};
  }
  t.activations[e] = product.rows + first * product.depth;
  t.weights[e] = product.weights + e * product.columns * product.depth;
  t.outputs[e] = product.output + first * product.columns * product.output_bytes;
  t.activation_scales[e] = product.row_scale + first;
  t.weight_scales[e] = product.weight_scale + static_cast<std::int64_t>(e) * column_blocks * depth_blocks;
  t.activation_strides[e] = product.depth;
  t.weight_strides[e] = product.depth;
  t.output_strides[e] = product.columns;
  t.activation_scale_layouts[e] = {rows, depth_blocks, 1, scale_pitch, 0};
  t.weight_scale_layouts[e] = {column_blocks, depth_blocks, 1, depth_blocks, 0};
}

__global__ void __launch_bounds__(kThreads) arguments(const __grid_constant__ ArgumentParams p) {
  const int thread = static_cast<int>(threadIdx.x);
  if (thread < 32) sum_padded_rows(p);
  __syncthreads();
  const std::int32_t all = p.row_begin[p.experts];
  for (int i = 0; i < plan::kProducts; ++i) {
    const ProductSide& product = p.products[i];
    const plan::Implementation chosen = p.rule.choice(static_cast<plan::Product>(i), p.tokens, p.chunk->rows);
    const bool mma = chosen == plan::Implementation::mma;
    const std::int32_t scale_pitch = mma ? static_cast<std::int32_t>(p.row_capacity) : all;
    for (int e = thread; e < p.experts; e += kThreads) write_group(p, product, chosen, scale_pitch, e);
    if (static_cast<plan::Product>(i) == plan::Product::gemm2) {
      for (int e = thread; e <= p.experts; e += kThreads) p.mma_begin[e] = mma ? p.row_begin[e] : 0;
    }
    if (thread == 0) {
      const bool f32 = product.output_f32 && chosen != plan::Implementation::trtllm;
      product.tables.rows[0] = f32 ? all : 0;
      product.tables.rows[1] = f32 ? 0 : all;
      product.tables.scale_pitch[0] = scale_pitch;
    }
  }
}

}  // namespace

Error launch_arguments(const ArgumentCall& call, cudaStream_t stream) {
  const TraceRange range("arguments");
  const ProductCall& any = call.products[0];
  ArgumentParams p = {};
  p.chunk = call.chunk;
  p.expert_begin = call.expert_begin;
  p.experts = any.experts;
  p.row_padding = any.row_padding;
  p.row_capacity = any.row_capacity;
  p.tokens = any.tokens;
  p.rule = call.rule;
  p.tiles = any.tiles;
  for (int i = 0; i < p.tiles.count; ++i) {
    p.swapped[i] = plan::kTileInfo[static_cast<std::size_t>(p.tiles.rows[i].tile)].swapped;
  }
  p.row_begin = call.workspace.row_begin;
  p.mma_begin = call.workspace.mma_begin;
  for (int i = 0; i < plan::kProducts; ++i) {
    const ProductCall& product = call.products[i];
    const bool f32 = product.output_type == plan::RowType::f32;
    p.products[i] = {product.columns,
                     product.depth,
                     product.rows,
                     product.row_scale,
                     product.weights,
                     product.weight_scale,
                     static_cast<char*>(product.output),
                     f32 ? 4 : 2,
                     f32,
                     call.workspace.tables[i]};
  }
  LaunchShape shape;
  shape.grid = 1;
  shape.block = kThreads;
  return launch_kernel("arguments", arguments, shape, stream, p);
}

Error prepare_arguments() {
  return prepare_kernel("arguments", arguments);
}

}  // namespace blockmoe::kernels::blackwell
