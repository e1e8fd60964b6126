// gemm1.cpp: gate and up products of each expert's rows, SwiGLU, requantise.
//
//   hidden        [T, H]             e4m3, pitched, gathered: row r of a block is token row_to_token[first + r]
//   hidden_scale  [H/128, T]         f32, pitched
//   w13           [L, 2I, H]         e4m3, up at row up_row + i, gate at row gate_row + i
//   w13_scale     [L, 2I/128, H/128] f32
//   inter         [max_rows, t, I]   e4m3 out      inter_scale [I/128, max_rows, t]  f32 out, t terms a value
//
// A unit of work is a row block x 128 columns of I, so that a unit owns whole scale blocks of its output: 256 weight rows,
// K = H in steps of 128. Up stands in columns 0..127 of the tile, gate in 128..255.
#include "cpu/gemm1.hpp"

#include "contract/requantise.h"
#include "cpu/lanes.hpp"
#include "cpu/tile.hpp"

namespace blockmoe::cpu {
namespace {

constexpr int kUp = 0;
constexpr int kGate = kBlock;
static_assert(kColumns == 2 * kBlock);

// One half of an expert's w13, at the unit's 128 rows.
struct WeightRows {
  const std::uint8_t* codes;  // [128, H]
  const float* scales;        // [H/128]
};

WeightRows weight_rows(const Call& call, std::int32_t expert, std::int64_t row) {
  const contract::Geometry& g = call.geometry;
  const std::int64_t first = expert * 2 * g.intermediate + row;
  return {call.weights.w13 + first * g.hidden, call.weights.w13_scale + first / kBlock * g.hidden_blocks()};
}

void load_scales(const Call& call, const std::int32_t* tokens, std::int64_t k, Tile& tile) {
  const float* scales = call.activations.hidden_scale + k * call.activations.hidden_scale_pitch;
  for (std::int32_t r = 0; r < tile.rows(); ++r) tile.activation_scales()[r] = scales[tokens[r]];
}

void multiply(const Call& call, const RowBlock& block, std::int64_t column_block, Tile& tile) {
  const contract::Geometry& g = call.geometry;
  const contract::Activations& a = call.activations;
  const std::int32_t* tokens = call.buffers.row_to_token + block.first;
  for (std::int32_t r = 0; r < block.count; ++r) tile.set_row(r, a.hidden + tokens[r] * a.hidden_pitch);

  const std::int64_t row = column_block * kBlock;
  const WeightRows up = weight_rows(call, block.expert, call.weights.up_row(g.intermediate) + row);
  const WeightRows gate = weight_rows(call, block.expert, call.weights.gate_row(g.intermediate) + row);
  for (std::int64_t k = 0; k < g.hidden_blocks(); ++k) {
    tile.load_activations(k);
    load_scales(call, tokens, k, tile);
    tile.multiply_add(up.codes + k * kBlock, g.hidden, up.scales[k], kUp);
    tile.multiply_add(gate.codes + k * kBlock, g.hidden, gate.scales[k], kGate);
  }
}

void finish(const Call& call, const RowBlock& block, std::int64_t column_block, const Tile& tile) {
  const Buffers& b = call.buffers;
  for (std::int32_t r = 0; r < block.count; ++r) {
    const std::int64_t row = block.first + r;
    const bool has_residuals = b.terms > 1;
    std::uint8_t* codes = b.inter + row * b.terms * call.geometry.intermediate + column_block * kBlock;
    float* const scales = b.inter_scale + (column_block * call.sizes.max_rows + row) * b.terms;
    scales[0] = swiglu_requantise(tile.acc(r) + kUp, tile.acc(r) + kGate, codes,
                                  has_residuals ? codes + call.geometry.intermediate : nullptr);
    if (has_residuals) scales[1] = contract::residual_scale(scales[0]);
  }
}

}  // namespace

void gemm1(const Call& call, const Chunk& chunk) {
  const std::int64_t column_blocks = call.geometry.intermediate_blocks();
  call.pool.for_each(chunk.row_blocks * column_blocks, [&](std::int64_t unit, int thread) {
    const RowBlock& block = call.buffers.row_blocks[unit / column_blocks];
    const std::int64_t column_block = unit % column_blocks;
    const Scratch scratch = call.buffers.scratch_of(thread, call.products);
    Tile tile(call.products, scratch, block.count);
    multiply(call, block, column_block, tile);
    finish(call, block, column_block, tile);
  });
}

}  // namespace blockmoe::cpu
