// Calls small enough for compute-sanitizer, on every backend of this GPU: tools/test_gpu.py runs these under each of its tools.
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "gates.hpp"
#include "gpu_test.hpp"
#include "layer.hpp"
#include "measure/gpu_call.hpp"
#include "verify/compare.hpp"
#include "verify/oracle.hpp"
#include "workload/inputs.hpp"

namespace blockmoe::test {
namespace {

using SanitizedTest = GpuTest;

struct Case {
  const char* name;
  std::int64_t tokens;
  contract::Geometry geometry;
  workload::Skew::Kind skew;
};

const Case kCases[] = {
    {"one token", 1, {128, 128, 8, 8, 2, 1, 1}, workload::Skew::Kind::even},
    {"a ragged batch", 37, {256, 128, 32, 8, 4, 4, 2}, workload::Skew::Kind::even},
    {"many rows an expert", 150, {128, 256, 8, 4, 3, 2, 2}, workload::Skew::Kind::even},
    {"all on one expert", 70, {128, 128, 16, 4, 2, 1, 1}, workload::Skew::Kind::all_on_one},
    {"one row on an expert", 150, {128, 256, 8, 4, 3, 2, 2}, workload::Skew::Kind::one_row},
    {"none local", 40, {128, 128, 16, 4, 2, 1, 1}, workload::Skew::Kind::none_local},
};

TEST_F(SanitizedTest, small_calls_agree_with_the_oracle) {
  const DeviceInfo device = query_device({DeviceType::cuda, 0}).value();
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.name);
    workload::Workload row;
    row.tokens = c.tokens;
    row.geometry = c.geometry;
    workload::InputOptions draw;
    draw.profile = workload::Profile::model;
    draw.skew.kind = c.skew;
    draw.dataset_root.clear();
    auto inputs = workload::InputMaker(draw).make(row);
    ASSERT_TRUE(inputs.ok()) << inputs.status().message();
    verify::OracleOptions full;
    full.scope = verify::OracleScope::full;
    const auto oracle =
        verify::run_oracle(inputs.value().geometry, inputs.value().weights, inputs.value().activations, full);
    for (const Backend backend : {Backend::portable, Backend::hopper}) {
      Options options;
      options.backend = backend;
      if (!Plan::create(inputs.value().public_geometry(), c.tokens, device, options).ok()) continue;
      SCOPED_TRACE(backend == Backend::hopper ? "hopper" : "portable");
      auto call = measure::GpuCall::create(inputs.value(), device, options, measure::Fill::nothing);
      ASSERT_TRUE(call.ok()) << call.status().message();
      const Status status = call.value().enqueue(nullptr);
      ASSERT_TRUE(status.ok()) << status.message();
      const auto output = call.value().fetch_output();
      ASSERT_TRUE(output.ok()) << output.status().message();
      const auto result =
          verify::compare(oracle, output.value().data(), c.geometry.hidden, {}, verify::kTensorCoreGates);
      EXPECT_TRUE(result.within_gates) << result.fault;
    }
  }
}

using contract::FloatType;
using kernels::plan::RowType;

LayerOptions layer_options(std::int64_t tokens, const contract::Geometry& geometry = {256, 128, 16, 4, 4, 4, 2}) {
  LayerOptions options;
  options.geometry = geometry;
  options.tokens = tokens;
  options.local_expert_offset = 4;
  return options;
}

// Every third value, from the second on, is none that a model has.
void make_special(std::vector<float>& values) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  constexpr float kSpecial[] = {NAN, kInf, -kInf, -0.0F, 1e-40F, -104.0F, std::numeric_limits<float>::max()};
  for (std::size_t i = 1; i < values.size(); i += 3) values[i] = kSpecial[i / 3 % std::size(kSpecial)];
}

Layer special_logits(FloatType type) {
  LayerOptions options = layer_options(40);
  options.logits_type = type;
  Layer layer = draw_layer(options);
  make_special(layer.logits);
  return layer;
}

Layer special_biases(FloatType type) {
  LayerOptions options = layer_options(40);
  options.bias_type = type;
  Layer layer = draw_layer(options);
  make_special(layer.bias);
  return layer;
}

Layer pitched(std::int64_t tokens) {
  LayerOptions options = layer_options(tokens);
  options.extra_pitch = 1;
  return draw_layer(options);
}

Layer gate_rows_first() {
  LayerOptions options = layer_options(33);
  options.gate_first = true;
  options.has_bias = false;
  return draw_layer(options);
}

Layer local_experts_from(std::int32_t offset) {
  LayerOptions options = layer_options(33);
  options.local_expert_offset = offset;
  return draw_layer(options);
}

// Half of all experts are local, so that a token has up to 32 rows.
Layer thirty_two_picks() {
  LayerOptions options = layer_options(35, {128, 128, 64, 32, 32, 1, 1});
  options.local_expert_offset = 16;
  return draw_layer(options);
}

void check(const Layer& layer, const kernels::plan::Sizes& sizes) {
  const HostCall host(layer);
  verify::OracleOptions full;
  full.scope = verify::OracleScope::full;
  const auto oracle = verify::run_oracle(layer.geometry(), host.weights, host.activations, full);
  for (const kernels::Path path : paths_here(layer.geometry())) {
    SCOPED_TRACE(name_of(path));
    const DeviceCall call(layer);
    run_call_in_fresh_memory(call, layer.geometry(), path, sizes);
    const auto output = call.output();
    const verify::Gates gates = sizes.terms > 1 ? two_term_gates_of_narrow_layers() : gates_of_narrow_layers(path);
    const auto result = verify::compare(oracle, output.data(), layer.output_pitch(), {}, gates);
    EXPECT_TRUE(result.within_gates) << result.fault;
  }
}

TEST_F(SanitizedTest, unusual_arguments_agree_with_the_oracle) {
  struct Unusual {
    const char* name;
    Layer layer;
  };
  const Unusual all[] = {
      {"NaN and infinite logits", special_logits(FloatType::f32)},
      {"the same in bf16", special_logits(FloatType::bf16)},
      {"NaN and infinite biases", special_biases(FloatType::bf16)},
      {"the same in f32", special_biases(FloatType::f32)},
      {"every tensor pitched", pitched(37)},
      {"three tokens, pitched", pitched(3)},
      {"gate rows first, no bias", gate_rows_first()},
      {"local experts from -2", local_experts_from(-2)},
      {"local experts past the last", local_experts_from(14)},
      {"local experts far below", local_experts_from(std::numeric_limits<std::int32_t>::min())},
      {"local experts far beyond", local_experts_from(std::numeric_limits<std::int32_t>::max())},
      {"32 picks a token", thirty_two_picks()},
      {"an odd number of column blocks", draw_layer(layer_options(20, {384, 384, 16, 4, 4, 1, 1}))},
  };
  for (const Unusual& unusual : all) {
    SCOPED_TRACE(unusual.name);
    check(unusual.layer, kernels::plan::sizes_of(unusual.layer.geometry(), unusual.layer.tokens()));
  }
}

// 100 tokens in slabs of 64. All 4 picks of a token are local: a token block has 128 rows, and a chunk is one block.
TEST_F(SanitizedTest, several_slabs_of_several_chunks_agree_with_the_oracle) {
  LayerOptions options = layer_options(100, {256, 128, 8, 8, 4, 1, 1});
  options.local_expert_offset = 0;
  options.extra_pitch = 1;
  const Layer layer = draw_layer(options);
  for (const RowType type : {RowType::f32, RowType::bf16}) {
    SCOPED_TRACE(type == RowType::f32 ? "rows in f32" : "rows in 16 bits");
    kernels::plan::Sizes sizes = sizes_with_slabs(layer.geometry(), layer.tokens(), 64, 192);
    ASSERT_EQ(2, sizes.slabs);
    ASSERT_EQ(4, sizes.max_chunks);
    sizes.row_type = type;
    check(layer, sizes);
  }
}

// In slots of hopper's ring that have both terms, and where some experts have too many rows for that, one.
TEST_F(SanitizedTest, intermediates_of_two_terms_agree_with_the_oracle) {
  for (const std::int64_t tokens : {1, 33, 150, 700}) {
    SCOPED_TRACE(tokens);
    const Layer layer = draw_layer(layer_options(tokens, {384, 256, 16, 8, 4, 4, 2}));
    check(layer, kernels::plan::sizes_of(layer.geometry(), tokens, RowType::f32, contract::IntermediateType::e4m3x2));
  }
}

std::vector<std::uint16_t> output_on(const Layer& layer, const GivenPicks& picks, kernels::Path path,
                                     const kernels::plan::Sizes& sizes) {
  DeviceCall call(layer);
  call.take(picks);
  run_call_in_fresh_memory(call, layer.geometry(), path, sizes);
  return call.output();
}

// Ids of any value and repeated ones, in rows apart: the bits of the call from which what is to be skipped was taken out.
void check_hostile_picks(const Layer& layer, const kernels::plan::Sizes& sizes) {
  const std::int32_t offset = layer.options.local_expert_offset;
  const GivenPicks hostile = hostile_picks(layer.geometry(), offset, layer.tokens(), 11, layer.options.extra_pitch);
  const GivenPicks left = without_skipped(hostile, layer.geometry(), offset);
  for (const kernels::Path path : paths_here(layer.geometry())) {
    SCOPED_TRACE(name_of(path));
    EXPECT_EQ(output_on(layer, left, path, sizes), output_on(layer, hostile, path, sizes));
  }
}

TEST_F(SanitizedTest, picks_that_are_no_experts_are_skipped) {
  struct Hostile {
    const char* name;
    Layer layer;
  };
  const Hostile all[] = {
      {"every tensor pitched", pitched(37)},
      {"one token", pitched(1)},
      {"local experts from -2", local_experts_from(-2)},
      {"local experts past the last", local_experts_from(14)},
      {"local experts far below", local_experts_from(std::numeric_limits<std::int32_t>::min())},
      {"local experts far beyond", local_experts_from(std::numeric_limits<std::int32_t>::max())},
      {"one pick a token", draw_layer(layer_options(33, {128, 128, 16, 4, 1, 1, 1}))},
      {"32 picks a token", thirty_two_picks()},
      {"fewer experts than picks", draw_layer(layer_options(33, {128, 128, 16, 2, 8, 1, 1}))},
  };
  for (const Hostile& hostile : all) {
    SCOPED_TRACE(hostile.name);
    check_hostile_picks(hostile.layer, kernels::plan::sizes_of(hostile.layer.geometry(), hostile.layer.tokens()));
  }
}

TEST_F(SanitizedTest, picks_of_several_slabs_of_several_chunks) {
  LayerOptions options = layer_options(100, {256, 128, 8, 8, 4, 1, 1});
  options.local_expert_offset = 0;
  options.extra_pitch = 1;
  const Layer layer = draw_layer(options);
  check_hostile_picks(layer, sizes_with_slabs(layer.geometry(), layer.tokens(), 64, 192));
}

}  // namespace
}  // namespace blockmoe::test
