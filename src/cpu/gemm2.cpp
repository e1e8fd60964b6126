// gemm2.cpp: the second product of each expert's rows.
//
//   inter          [max_rows, t, I]   e4m3      inter_scale [I/128, max_rows, t]  f32, t terms a value
//   w2             [L, H, I]          e4m3      w2_scale    [L, H/128, I/128]  f32
//   expert_output  [max_rows, H]      f32 out
//
// A unit of work is a row block x 256 columns of H (the last of an odd number of 128s has 128), K = I in steps of 128.
#include "cpu/gemm2.hpp"

#include <algorithm>
#include <functional>

#include "cpu/tile.hpp"

namespace blockmoe::cpu {
namespace {

// To the tile a row's terms are rows of its own, `terms` one behind the other.
void multiply(const Call& call, const RowBlock& block, std::int64_t first_column, int columns, Tile& tile) {
  const contract::Geometry& g = call.geometry;
  const Buffers& b = call.buffers;
  const std::int64_t first = std::int64_t{block.first} * b.terms;
  for (std::int32_t r = 0; r < tile.rows(); ++r) tile.set_row(r, b.inter + (first + r) * g.intermediate);

  const std::int64_t first_row = block.expert * g.hidden + first_column;
  for (std::int64_t k = 0; k < g.intermediate_blocks(); ++k) {
    tile.load_activations(k);
    std::copy_n(b.inter_scale + k * call.sizes.max_rows * b.terms + first, tile.rows(), tile.activation_scales());
    for (int column = 0; column < columns; column += kBlock) {
      const std::int64_t row = first_row + column;
      const float scale = call.weights.w2_scale[row / kBlock * g.intermediate_blocks() + k];
      tile.multiply_add(call.weights.w2 + row * g.intermediate + k * kBlock, g.intermediate, scale, column);
    }
  }
}

}  // namespace

void gemm2(const Call& call, const Chunk& chunk) {
  const std::int64_t hidden = call.geometry.hidden;
  const std::int64_t column_units = (hidden + kColumns - 1) / kColumns;
  call.pool.for_each(chunk.row_blocks * column_units, [&](std::int64_t unit, int thread) {
    const RowBlock& block = call.buffers.row_blocks[unit / column_units];
    const std::int64_t first_column = unit % column_units * kColumns;
    const int columns = static_cast<int>(std::min<std::int64_t>(kColumns, hidden - first_column));
    const Scratch scratch = call.buffers.scratch_of(thread, call.products);
    Tile tile(call.products, scratch, block.count * call.buffers.terms);
    multiply(call, block, first_column, columns, tile);
    for (std::int32_t r = 0; r < block.count; ++r) {
      float* const to = call.buffers.expert_output + (block.first + r) * hidden + first_column;
      if (call.buffers.terms == 1) {
        std::copy_n(tile.acc(r), columns, to);
      } else {
        std::transform(tile.acc(2 * r), tile.acc(2 * r) + columns, tile.acc(2 * r + 1), to, std::plus());
      }
    }
  });
}

}  // namespace blockmoe::cpu
