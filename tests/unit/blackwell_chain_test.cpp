// A chunk on its way through Blackwell's stages on the host, kernel by kernel, thread by thread: arguments, gather, SwiGLU and combine are
// the GPU's, and the products are loops that read the groups exactly as CUTLASS reads them. What comes out is the layer's.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "blackwell/arguments.h"
#include "blackwell/gather.h"
#include "blackwell_oracle.hpp"
#include "contract/e4m3.h"
#include "contract/exp.h"
#include "contract/requantise.h"
#include "stages/stages.h"
#include "stages/swiglu.h"

namespace blockmoe::test {
namespace {

namespace blackwell = kernels::blackwell;
namespace plan = kernels::plan;
using plan::Product;

constexpr std::int64_t kHidden = 256;
constexpr std::int64_t kIntermediate = 128;

struct Chain {
  ArgumentCase arguments;
  bool gate_first;
  std::vector<std::uint8_t> hidden, w13, w2;
  std::vector<float> hidden_scale, w13_scale, w2_scale, pick_weight;

  Chain(const std::vector<std::int32_t>& counts, std::int32_t row_padding, plan::TileTable tiles, plan::RowType rows,
        bool gate_first_, std::uint32_t seed)
      : gate_first(gate_first_) {
    arguments.geometry = {kHidden, kIntermediate, 0, static_cast<std::int32_t>(counts.size()), 1, 1, 1};
    arguments.packed = packed_chunk(counts, 2);
    arguments.row_padding = row_padding;
    arguments.tiles = tiles;
    arguments.gemm2_type = rows;
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    const auto codes = [&](std::int64_t count) {
      std::vector<std::uint8_t> all(static_cast<std::size_t>(count));
      for (std::uint8_t& code : all) code = contract::e4m3_encode(normal(random));
      return all;
    };
    const auto scales = [&](std::int64_t count) {
      std::vector<float> all(static_cast<std::size_t>(count));
      for (float& scale : all) scale = normal(random) / 8;
      return all;
    };
    const auto L = static_cast<std::int64_t>(counts.size());
    const std::int64_t T = arguments.packed.tokens;
    hidden = codes(T * kHidden);
    hidden_scale = scales(kHidden / 128 * T);
    w13 = codes(L * 2 * kIntermediate * kHidden);
    w13_scale = scales(L * (2 * kIntermediate / 128) * (kHidden / 128));
    w2 = codes(L * kHidden * kIntermediate);
    w2_scale = scales(L * (kHidden / 128) * (kIntermediate / 128));
    pick_weight = scales(T * arguments.packed.picks);
  }
};

template <typename T>
T& at(std::vector<T>& values, std::int64_t index) {
  return values[static_cast<std::size_t>(index)];
}

// What a grouped kernel makes of its arguments.
void multiply(const blackwell::ProductTables& t, const plan::TileTable& tiles, std::int32_t experts,
              plan::RowType type) {
  for (std::int32_t tile = 0; tile < tiles.count; ++tile) {
    const bool swapped = plan::kTileInfo[static_cast<std::size_t>(tiles.rows[tile].tile)].swapped;
    for (std::int32_t e = 0; e < experts; ++e) {
      const blackwell::GroupShape shape = t.shapes[tile][e];
      const std::int32_t rows = swapped ? shape.n : shape.m;
      const std::int32_t columns = swapped ? shape.m : shape.n;
      for (std::int32_t r = 0; r < rows; ++r) {
        for (std::int32_t c = 0; c < columns; ++c) {
          float sum = 0.0F;
          for (std::int32_t block = 0; block < shape.k / 128; ++block) {
            float partial = 0.0F;
            for (std::int32_t k = block * 128; k < (block + 1) * 128; ++k) {
              partial += contract::e4m3_decode(t.activations[e][r * t.activation_strides[e] + k]) *
                         contract::e4m3_decode(t.weights[e][c * t.weight_strides[e] + k]);
            }
            const float row_scale = t.activation_scales[e][r + block * t.activation_scale_layouts[e].pitch];
            const float weight_scale = t.weight_scales[e][c / 128 * t.weight_scale_layouts[e].pitch + block];
            sum = std::fma(partial, row_scale * weight_scale, sum);
          }
          const std::int64_t place = r * t.output_strides[e] + c;
          if (type == plan::RowType::f32) {
            static_cast<float*>(t.outputs[e])[place] = sum;
          } else {
            static_cast<std::uint16_t*>(t.outputs[e])[place] = contract::bf16_encode(sum);
          }
        }
      }
    }
  }
}

// A token's output in FP64, with the requantisation of the contract between.
std::vector<double> reference(Chain& c, std::int64_t token) {
  std::vector<double> output(kHidden);
  PackedChunk& packed = c.arguments.packed;
  const std::int64_t T = packed.tokens;
  for (std::int64_t j = 0; j < packed.picks; ++j) {
    const std::int64_t e = at(packed.pick_expert, token * packed.picks + j);
    if (e < 0) continue;
    const auto gate_up = [&](std::int64_t row) {
      double sum = 0;
      for (std::int64_t k = 0; k < kHidden; ++k) {
        sum += static_cast<double>(contract::e4m3_decode(at(c.hidden, token * kHidden + k))) *
               static_cast<double>(at(c.hidden_scale, k / 128 * T + token)) *
               static_cast<double>(contract::e4m3_decode(at(c.w13, (e * 2 * kIntermediate + row) * kHidden + k))) *
               static_cast<double>(at(c.w13_scale, (e * 2 * kIntermediate + row) / 128 * (kHidden / 128) + k / 128));
      }
      return static_cast<float>(sum);
    };
    std::vector<float> values;
    float amax = 0.0F;
    for (std::int64_t i = 0; i < kIntermediate; ++i) {
      const float up = gate_up(c.gate_first ? kIntermediate + i : i);
      const float gate = gate_up(c.gate_first ? i : kIntermediate + i);
      values.push_back(contract::silu(gate) * up);
      amax = contract::amax_step(amax, values.back());
    }
    const contract::BlockScale scale = contract::block_scale(amax);
    for (std::int64_t h = 0; h < kHidden; ++h) {
      double sum = 0;
      for (std::int64_t i = 0; i < kIntermediate; ++i) {
        sum += static_cast<double>(contract::e4m3_decode(contract::requantise(at(values, i), scale.inverse))) *
               static_cast<double>(contract::e4m3_decode(at(c.w2, (e * kHidden + h) * kIntermediate + i)));
      }
      output[static_cast<std::size_t>(h)] += sum * static_cast<double>(scale.scale) *
                                             static_cast<double>(at(c.w2_scale, e * (kHidden / 128) + h / 128)) *
                                             static_cast<double>(at(c.pick_weight, token * packed.picks + j));
    }
  }
  return output;
}

void expect_layer(Chain& c) {
  ArgumentCase& a = c.arguments;
  PackedChunk& packed = a.packed;
  const auto L = static_cast<std::int32_t>(packed.counts.size());
  const std::size_t bytes = blackwell::workspace_at(nullptr, a.geometry, a.sizes(), a.row_padding, 0).bytes;
  const std::unique_ptr<void, decltype(&std::free)> memory(std::aligned_alloc(256, bytes), std::free);
  std::memset(memory.get(), 0xff, bytes);
  const auto w = blackwell::workspace_at(memory.get(), a.geometry, a.sizes(), a.row_padding, 0);
  auto products = a.products(w);
  products[0].weights = c.w13.data();
  products[0].weight_scale = c.w13_scale.data();
  products[1].weights = c.w2.data();
  products[1].weight_scale = c.w2_scale.data();
  blackwell::ArgumentCall call;
  call.chunk = &packed.chunk;
  call.expert_begin = packed.expert_begin.data();
  call.rule = a.rule;
  call.products = products.data();
  call.workspace = w;
  ASSERT_TRUE(blackwell::launch_arguments(call, nullptr).ok());

  std::vector<std::uint16_t> output(static_cast<std::size_t>(packed.tokens * kHidden), 0x7fc0);
  kernels::stages::Slab slab;
  slab.geometry = a.geometry;
  slab.sizes = a.sizes();
  slab.sms = 2;
  slab.activations.tokens = packed.tokens;
  slab.activations.hidden = c.hidden.data();
  slab.activations.hidden_pitch = kHidden;
  slab.activations.hidden_scale = c.hidden_scale.data();
  slab.activations.hidden_scale_pitch = packed.tokens;
  slab.activations.output = output.data();
  slab.activations.output_pitch = kHidden;
  slab.workspace.chunks = &packed.chunk;
  slab.workspace.expert_begin = packed.expert_begin.data();
  slab.workspace.pick_expert = packed.pick_expert.data();
  slab.workspace.pick_row = packed.pick_row.data();
  slab.workspace.pick_weight = c.pick_weight.data();
  ASSERT_TRUE(blackwell::launch_gather(slab, 0, w, a.row_capacity(), nullptr).ok());
  multiply(w.tables[0], a.tiles, L, plan::RowType::f32);

  kernels::stages::SwigluCall swiglu;
  swiglu.gate_up = w.gate_up;
  swiglu.intermediate = kIntermediate;
  swiglu.up_column = c.gate_first ? kIntermediate : 0;
  swiglu.gate_column = c.gate_first ? 0 : kIntermediate;
  swiglu.rows = w.tables[0].rows;
  swiglu.scale_pitch = w.tables[1].scale_pitch;
  swiglu.row_capacity = a.row_capacity();
  swiglu.inter = w.inter;
  swiglu.inter_scale = w.inter_scale;
  swiglu.sms = 1;
  ASSERT_TRUE(kernels::stages::launch_swiglu(swiglu, nullptr).ok());
  multiply(w.tables[1], a.tiles, L, a.gemm2_type);

  slab.sizes.row_capacity = a.row_capacity();
  slab.workspace.pick_row = w.pick_row;
  slab.workspace.rows = w.rows;
  ASSERT_TRUE(kernels::stages::launch_combine(slab, 0, nullptr).ok());
  for (std::int64_t token = 0; token < packed.tokens; ++token) {
    SCOPED_TRACE("token " + std::to_string(token));
    if (token < packed.chunk.token_begin || token >= packed.chunk.token_end) {
      ASSERT_EQ(at(output, token * kHidden), 0x7fc0) << "another chunk's";
      continue;
    }
    const std::vector<double> expected = reference(c, token);
    double error = 0;
    double size = 0;
    for (std::int64_t h = 0; h < kHidden; ++h) {
      const double found = static_cast<double>(contract::bf16_decode(at(output, token * kHidden + h)));
      error += std::pow(found - expected[static_cast<std::size_t>(h)], 2);
      size += std::pow(expected[static_cast<std::size_t>(h)], 2);
    }
    // bf16 outputs leave 0.0017, bf16 rows as much again.
    ASSERT_LE(std::sqrt(error), 0.004 * std::sqrt(size));
  }
}

TEST(BlackwellChain, gives_the_layer_for_every_order_of_rows_and_every_tile) {
  const plan::TileTable swapped = {
      true, 2, {{plan::BlackwellTile::swapped_m128n16, 2}, {plan::BlackwellTile::m64n128, plan::kNoLimit}, {}}};
  std::uint32_t seed = 0;
  for (const std::vector<std::int32_t>& counts :
       {std::vector<std::int32_t>{0, 3, 1, 0, 5}, {0, 0, 0}, {9}, {1, 1, 1, 1, 1, 1, 1, 1}, {0, 0, 7, 0}, {4, 8, 0}}) {
    for (const std::int32_t padding : {4, 64}) {
      for (const plan::TileTable& tiles : {swapped, plan::kReferenceTiles}) {
        SCOPED_TRACE(described(counts) + ", padded to " + std::to_string(padding));
        ++seed;
        Chain chain(counts, padding, tiles, seed % 2 == 0 ? plan::RowType::f32 : plan::RowType::bf16, seed % 3 == 0,
                    seed);
        expect_layer(chain);
        if (HasFatalFailure()) return;
      }
    }
  }
}

}  // namespace
}  // namespace blockmoe::test
