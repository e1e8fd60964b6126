// The grouped products of the portable path alone, against FP64.
#include <cmath>
#include <string>
#include <vector>

#include "contract/e4m3.h"
#include "gpu_test.hpp"
#include "layer.hpp"
#include "portable/portable.h"
#include "portable/shape.h"
#include "stages/stages.h"
#include "verify/expert_oracle.hpp"

namespace blockmoe::test {
namespace {

using contract::Geometry;
namespace stages = kernels::stages;
namespace plan = kernels::plan;
namespace portable = kernels::portable;

using ProductTest = GpuTest;

struct Norms {
  double error = 0.0;
  double reference = 0.0;

  void add(double found, double expected) {
    error += (found - expected) * (found - expected);
    reference += expected * expected;
  }
  double relative() const { return reference == 0.0 ? std::sqrt(error) : std::sqrt(error / reference); }
};

// What a chunk's rows hold after gemm1 and gemm2.
struct Found {
  std::vector<std::int32_t> expert_begin, row_to_token;
  std::vector<std::uint8_t> inter;
  std::vector<float> inter_scale;
  std::vector<float> rows;
  std::int64_t row_capacity = 0;
};

Found run(const Layer& layer) {
  const Geometry& g = layer.geometry();
  const DeviceCall device(layer);
  const StageCall call(device, g);
  const stages::Slab& slab = call.slab();
  const int ring = portable::ring_stages_of(device_here(), g);
  EXPECT_EQ(1, slab.sizes.max_chunks);
  EXPECT_EQ(plan::RowType::f32, slab.sizes.row_type);
  EXPECT_TRUE(portable::prepare_gemm1(ring).ok() && portable::prepare_gemm2(ring).ok());
  EXPECT_TRUE(stages::launch_route(slab, nullptr).ok() && stages::launch_pack(slab, nullptr).ok());
  EXPECT_TRUE(portable::launch_gemm1(slab, 0, ring, nullptr).ok());
  EXPECT_TRUE(portable::launch_gemm2(slab, 0, ring, nullptr).ok());
  EXPECT_EQ(cudaSuccess, cudaDeviceSynchronize());
  Found f;
  f.row_capacity = slab.sizes.row_capacity;
  f.expert_begin = call.fetch(slab.workspace.expert_begin, g.local_experts + std::int64_t{1});
  const std::int64_t rows = f.expert_begin.back();
  f.row_to_token = call.fetch(slab.workspace.row_to_token, rows);
  f.inter = call.fetch(slab.workspace.inter, rows * g.intermediate);
  f.inter_scale = call.fetch(slab.workspace.inter_scale, g.intermediate_blocks() * f.row_capacity);
  f.rows = call.fetch(static_cast<const float*>(slab.workspace.rows), rows * g.hidden);
  return f;
}

// Gates of D2.6's kind: gemm1 before requantisation shows in the scales (amax of 128 values each), its codes against the
// rounded oracle (a code may flip where the value is near a tie); gemm2 is fed the kernel's own codes.
void check(const Layer& layer) {
  const Geometry& g = layer.geometry();
  const Found f = run(layer);
  const HostCall host(layer);
  Norms scales;
  Norms codes;
  Norms outputs;
  for (std::int32_t e = 0; e < g.local_experts; ++e) {
    const std::int64_t begin = f.expert_begin[static_cast<std::size_t>(e)];
    const std::int64_t rows = f.expert_begin[static_cast<std::size_t>(e) + 1] - begin;
    if (rows == 0) continue;
    std::vector<std::int64_t> tokens;
    tokens.reserve(static_cast<std::size_t>(rows));
    for (std::int64_t r = 0; r < rows; ++r) tokens.push_back(f.row_to_token[static_cast<std::size_t>(begin + r)]);
    const auto hidden = verify::hidden_rows(g, host.activations, tokens);
    const auto activated = verify::gemm1_oracle(g, host.weights, e, hidden);
    const auto expected = verify::requantise_rows(activated.values, g.intermediate);
    const auto found = verify::decode_rows(f.inter.data() + begin * g.intermediate, g.intermediate,
                                           f.inter_scale.data() + begin, f.row_capacity, rows, g.intermediate);
    for (std::size_t i = 0; i < expected.scales.size(); ++i) scales.add(found.scales[i], expected.scales[i]);
    const auto blocks = static_cast<std::size_t>(g.intermediate_blocks());
    for (std::size_t i = 0; i < expected.values.size(); ++i) {
      const std::size_t scale =
          i / static_cast<std::size_t>(g.intermediate) * blocks + i % static_cast<std::size_t>(g.intermediate) / 128;
      codes.add(found.values[i] * found.scales[scale], expected.values[i] * expected.scales[scale]);
    }
    const auto products = verify::gemm2_oracle(g, host.weights, e, found);
    for (std::size_t i = 0; i < products.values.size(); ++i) {
      outputs.add(f.rows[static_cast<std::size_t>(begin * g.hidden) + i], products.values[i]);
    }
  }
  EXPECT_LE(scales.relative(), 0.0005);
  EXPECT_LE(codes.relative(), 0.005);
  EXPECT_LE(outputs.relative(), 0.002);
}

LayerOptions one_group(std::int64_t hidden, std::int64_t intermediate, std::int32_t experts, std::int32_t local_experts,
                       std::int32_t top_k, std::int64_t tokens) {
  LayerOptions options;
  options.geometry = {hidden, intermediate, experts, local_experts, top_k, 1, 1};
  options.tokens = tokens;
  return options;
}

TEST_F(ProductTest, every_geometry_from_one_block_up) {
  for (const std::int64_t hidden : {128, 256, 384, 1152}) {
    for (const std::int64_t intermediate : {128, 256, 640}) {
      SCOPED_TRACE("H " + std::to_string(hidden) + " I " + std::to_string(intermediate));
      check(draw_layer(one_group(hidden, intermediate, 8, 8, 3, 70)));
    }
  }
}

TEST_F(ProductTest, every_row_count_of_one_expert_from_1_to_300) {
  for (std::int64_t rows = 1; rows <= 300; rows += rows < 70 ? 1 : 7) {
    SCOPED_TRACE("rows " + std::to_string(rows));
    check(draw_layer(one_group(256, 128, 1, 1, 1, rows)));
  }
}

TEST_F(ProductTest, full_size_rows_of_a_few_experts) {
  check(draw_layer(one_group(7168, 2048, 4, 2, 1, 40)));
}

TEST_F(ProductTest, gate_rows_first) {
  LayerOptions options = one_group(384, 256, 8, 4, 2, 50);
  options.gate_first = true;
  check(draw_layer(options));
}

TEST_F(ProductTest, pitches_of_tokens_and_scales) {
  LayerOptions options = one_group(384, 256, 8, 4, 2, 50);
  options.extra_pitch = 3;
  check(draw_layer(options));
}

TEST_F(ProductTest, every_e4m3_code_in_both_operands) {
  Layer layer = draw_layer(one_group(256, 128, 1, 1, 1, 64));
  for (std::size_t i = 0; i < layer.hidden.size(); ++i) {
    const auto code = static_cast<std::uint8_t>(i % 256);
    layer.hidden[i] = (code & 0x7f) == 0x7f ? 0 : code;
  }
  for (std::size_t i = 0; i < layer.w13.size(); ++i) {
    const auto code = static_cast<std::uint8_t>(i * 7 % 256);
    layer.w13[i] = (code & 0x7f) == 0x7f ? 0 : code;
  }
  check(layer);
}

}  // namespace
}  // namespace blockmoe::test
