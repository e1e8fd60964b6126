// Whole calls on every path of this GPU, against the FP64 oracle.
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "contract/e4m3.h"
#include "gates.hpp"
#include "given_picks.hpp"
#include "gpu_test.hpp"
#include "layer.hpp"
#include "nan_weights.hpp"
#include "verify/compare.hpp"
#include "verify/oracle.hpp"

namespace blockmoe::test {
namespace {

using contract::FloatType;
using kernels::Path;

using OperatorTest = GpuTest;

constexpr std::uint16_t kPoison = 0xffff;

// Rows without their gaps.
std::vector<std::uint16_t> rows_of(const Layer& layer, const std::vector<std::uint16_t>& output) {
  std::vector<std::uint16_t> rows;
  for (std::int64_t t = 0; t < layer.tokens(); ++t) {
    const auto first = output.begin() + static_cast<std::ptrdiff_t>(t * layer.output_pitch());
    rows.insert(rows.end(), first, first + static_cast<std::ptrdiff_t>(layer.geometry().hidden));
  }
  return rows;
}

bool gaps_untouched(const Layer& layer, const std::vector<std::uint16_t>& output) {
  for (std::int64_t t = 0; t < layer.tokens(); ++t) {
    for (std::int64_t c = layer.geometry().hidden; c < layer.output_pitch(); ++c) {
      if (output[static_cast<std::size_t>(t * layer.output_pitch() + c)] != kPoison) return false;
    }
  }
  return true;
}

using GatesOf = verify::Gates (*)(Path);

void check(const Layer& layer, GatesOf gates = gates_of) {
  const HostCall host(layer);
  verify::OracleOptions options;
  options.scope = verify::OracleScope::full;
  options.pruning = layer.options.pruning;
  const verify::OracleResult oracle = verify::run_oracle(layer.geometry(), host.weights, host.activations, options);
  for (const Path path : paths_here(layer.geometry())) {
    SCOPED_TRACE(name_of(path));
    const std::vector<std::uint16_t> output = output_of(layer, path);
    const verify::Comparison result = verify::compare(oracle, output.data(), layer.output_pitch(), {}, gates(path));
    EXPECT_TRUE(result.within_gates) << result.fault;
    EXPECT_TRUE(gaps_untouched(layer, output));
  }
}

LayerOptions options_of(std::int64_t hidden, std::int64_t intermediate, std::int32_t experts,
                        std::int32_t local_experts, std::int32_t top_k, std::int64_t tokens) {
  LayerOptions options;
  options.geometry = {hidden, intermediate, experts, local_experts, top_k, 1, 1};
  options.tokens = tokens;
  return options;
}

// Just wide enough for the contract's gates.
LayerOptions small_options(std::int64_t tokens) {
  LayerOptions options = options_of(512, 1024, 32, 8, 4, tokens);
  options.local_expert_offset = 8;
  return options;
}

TEST_F(OperatorTest, agrees_with_the_oracle_for_every_kind_of_call) {
  std::uint32_t seed = 100;
  for (const std::int64_t tokens : {1, 2, 7, 16, 33, 100, 301}) {
    for (int kind = 0; kind < 8; ++kind) {
      SCOPED_TRACE("T " + std::to_string(tokens) + " kind " + std::to_string(kind));
      LayerOptions options = small_options(tokens);
      options.seed = seed++;
      options.gate_first = kind % 2 == 1;
      options.logits_type = kind / 2 % 2 == 1 ? FloatType::bf16 : FloatType::f32;
      options.bias_type = kind % 3 == 1 ? FloatType::f32 : FloatType::bf16;
      options.has_bias = kind != 5;
      options.extra_pitch = kind / 4;
      check(draw_layer(options));
    }
  }
}

TEST_F(OperatorTest, pruned_calls_agree_with_the_pruned_oracle) {
  std::uint32_t seed = 300;
  for (const std::int64_t tokens : {1, 16, 33, 301}) {
    for (const contract::Pruning pruning : {contract::Pruning{1, 0}, {2, 0}, {0, 0.2F}, {0, 0.9F}, {3, 0.1F}}) {
      SCOPED_TRACE("T " + std::to_string(tokens) + " at most " + std::to_string(pruning.max_local_picks) +
                   " from a share of " + std::to_string(pruning.min_weight_share));
      LayerOptions options = small_options(tokens);
      options.geometry.local_experts = 24;
      options.local_expert_offset = 4;
      options.seed = seed++;
      options.pruning = pruning;
      check(draw_layer(options));
    }
  }
}

TEST_F(OperatorTest, every_geometry_from_one_block_up) {
  for (const std::int64_t hidden : {128, 256, 640, 1024}) {
    for (const std::int64_t intermediate : {128, 384, 512}) {
      SCOPED_TRACE("H " + std::to_string(hidden) + " I " + std::to_string(intermediate));
      check(draw_layer(options_of(hidden, intermediate, 16, 16, 4, 60)), gates_of_narrow_layers);
    }
  }
}

TEST_F(OperatorTest, deepseek_v3_layer_with_two_local_experts) {
  LayerOptions options;
  options.geometry.local_experts = 2;
  options.tokens = 64;
  options.local_expert_offset = 100;
  check(draw_layer(options));
}

TEST_F(OperatorTest, all_tokens_on_one_expert) {
  for (const std::int64_t tokens : {1, 15, 64, 65, 300}) {
    Layer layer = draw_layer(small_options(tokens));
    for (std::int64_t t = 0; t < tokens; ++t) layer.logits[static_cast<std::size_t>(t * 32 + 11)] = 40.0F;
    check(layer);
  }
}

TEST_F(OperatorTest, a_call_without_local_picks_writes_zeros) {
  for (const std::int64_t tokens : {100, 2000}) {  // by combine; beside the products (hopper/zero_rows.cuh)
    SCOPED_TRACE(tokens);
    LayerOptions options = small_options(tokens);
    options.local_expert_offset = 1000;
    options.extra_pitch = 1;
    const Layer layer = draw_layer(options);
    for (const Path path : paths_here(layer.geometry())) {
      SCOPED_TRACE(name_of(path));
      const std::vector<std::uint16_t> output = output_of(layer, path);
      const auto rows = rows_of(layer, output);
      EXPECT_TRUE(std::all_of(rows.begin(), rows.end(), [](std::uint16_t x) { return x == 0; }));
      EXPECT_TRUE(gaps_untouched(layer, output));
    }
  }
}

// 250 rows an expert; three tokens in ten have no local pick. H is no multiple of what a row of zeros is written in.
TEST_F(OperatorTest, a_large_call_writes_rows_and_zeros) {
  for (const std::int64_t hidden : {512, 1152}) {
    SCOPED_TRACE(hidden);
    LayerOptions options = options_of(hidden, 1024, 32, 8, 4, 2000);
    options.local_expert_offset = 8;
    options.extra_pitch = 1;
    check(draw_layer(options));
  }
}

TEST_F(OperatorTest, no_tokens_is_a_call_that_writes_nothing) {
  const Layer layer = draw_layer(small_options(1));
  DeviceCall call(layer);
  call.activations.tokens = 0;
  for (const Path path : paths_here(layer.geometry())) {
    SCOPED_TRACE(name_of(path));
    run_call(call, layer.geometry(), path);
    for (const std::uint16_t x : call.output()) ASSERT_EQ(kPoison, x);
  }
}

// An element of the gaps keeps its poison, which rounds to itself.
std::vector<std::uint16_t> rounded(const std::vector<float>& values) {
  std::vector<std::uint16_t> all;
  all.reserve(values.size());
  for (const float x : values) all.push_back(contract::bits_of(x) == 0xffffffffU ? kPoison : contract::bf16_encode(x));
  return all;
}

// The longest call's rows travel in 16 bits, and on hopper its products write the rows of tokens without a local pick.
TEST_F(OperatorTest, an_f32_output_rounds_to_the_bf16_outputs_bits) {
  for (const std::int64_t tokens : {1, 33, 300, 8000}) {
    for (const std::int64_t extra_pitch : {0, 1}) {
      LayerOptions options = small_options(tokens);
      options.extra_pitch = extra_pitch;
      const Layer layer = draw_layer(options);
      const HostCall host(layer);
      const GivenPicks picks = picks_of_routing(layer.geometry(), host.weights, host.activations);
      for (const Path path : paths_here(layer.geometry())) {
        SCOPED_TRACE(std::string(name_of(path)) + " T " + std::to_string(tokens));
        const auto expected = output_of(layer, path);
        DeviceCall call(layer);
        call.want_f32();
        run_call(call, layer.geometry(), path);
        EXPECT_TRUE(expected == rounded(call.f32_output()));
        call.want_f32();
        call.take(picks);
        run_call(call, layer.geometry(), path);
        EXPECT_TRUE(expected == rounded(call.f32_output()));
      }
    }
  }
}

TEST_F(OperatorTest, scales_may_be_negative_denormal_or_huge) {
  Layer layer = draw_layer(small_options(80));
  constexpr float kScales[] = {-1.0F, 1e-39F, 1e-45F, -1e-30F, 1e12F, -1e15F, 0.0F, 0.03F};
  for (std::size_t i = 0; i < layer.hidden_scale.size(); ++i)
    layer.hidden_scale[i] = kScales[i * 5 % std::size(kScales)];
  for (std::size_t i = 0; i < layer.w13_scale.size(); ++i) layer.w13_scale[i] = kScales[i * 3 % std::size(kScales)];
  check(layer);
}

TEST_F(OperatorTest, a_nan_in_a_token_stays_in_that_token) {
  const Layer clean = draw_layer(small_options(90));
  Layer layer = clean;
  constexpr std::int64_t kToken = 40;
  layer.hidden[static_cast<std::size_t>(kToken * layer.hidden_pitch() + 200)] = contract::kE4m3NaN;
  layer.hidden_scale[static_cast<std::size_t>(2 * layer.hidden_scale_pitch() + 70)] =
      std::numeric_limits<float>::infinity();  // token 70, the third block
  for (const Path path : paths_here(clean.geometry())) {
    SCOPED_TRACE(name_of(path));
    const auto expected = rows_of(clean, output_of(clean, path));
    const auto found = rows_of(layer, output_of(layer, path));
    for (std::size_t i = 0; i < found.size(); ++i) {
      const std::int64_t token = static_cast<std::int64_t>(i) / clean.geometry().hidden;
      if (token == kToken || token == 70) continue;
      ASSERT_EQ(expected[i], found[i]) << "token " << token;
    }
  }
  check(layer);
}

TEST_F(OperatorTest, a_nan_in_an_experts_weights_reaches_only_tokens_that_picked_it) {
  const Layer clean = draw_layer(small_options(90));
  for_each_nan_in_an_experts_weights(clean, [&](const Layer& layer, const std::vector<bool>& untouched) {
    for (const Path path : paths_here(clean.geometry())) {
      SCOPED_TRACE(name_of(path));
      const auto expected = rows_of(clean, output_of(clean, path));
      const auto found = rows_of(layer, output_of(layer, path));
      for (std::size_t i = 0; i < found.size(); ++i) {
        const auto token = i / static_cast<std::size_t>(clean.geometry().hidden);
        if (!untouched[token]) continue;
        ASSERT_EQ(expected[i], found[i]) << "token " << token;
      }
    }
    check(layer);
  });
}

TEST_F(OperatorTest, portable_gives_the_same_bits_on_any_number_of_multiprocessors) {
  const Layer layer = draw_layer(options_of(512, 384, 32, 16, 4, 400));
  const auto expected = output_of(layer, Path::portable);
  for (const std::int32_t sms : {0, 1, 2, 37, 100, 1000})
    EXPECT_EQ(expected, output_of(layer, Path::portable, sms)) << sms;
}

TEST_F(OperatorTest, every_path_runs_on_any_number_of_multiprocessors_and_repeats_its_bits) {
  const Layer layer = draw_layer(options_of(512, 1024, 32, 16, 4, 400));
  const HostCall host(layer);
  verify::OracleOptions full;
  full.scope = verify::OracleScope::full;
  const verify::OracleResult oracle = verify::run_oracle(layer.geometry(), host.weights, host.activations, full);
  for (const Path path : paths_here(layer.geometry())) {
    for (const std::int32_t sms : {1, 2, 37, 100}) {
      SCOPED_TRACE(std::string(name_of(path)) + " on " + std::to_string(sms));
      const auto output = output_of(layer, path, sms);
      EXPECT_EQ(output, output_of(layer, path, sms));
      const auto result = verify::compare(oracle, output.data(), layer.output_pitch(), {}, gates_of(path));
      EXPECT_TRUE(result.within_gates) << result.fault;
    }
  }
}

TEST_F(OperatorTest, a_call_in_many_slabs_and_chunks_gives_what_its_tokens_give_alone) {
  // Every token picks 8 of 8 local experts: 20000 tokens are 160000 rows, more than any slab or chunk holds.
  LayerOptions options = options_of(2048, 128, 8, 8, 8, 20000);
  const Layer layer = draw_layer(options);
  const kernels::plan::Sizes sizes = kernels::plan::sizes_of(layer.geometry(), layer.tokens());
  ASSERT_GT(sizes.slabs, 1);
  for (const Path path : paths_here(layer.geometry())) {
    SCOPED_TRACE(name_of(path));
    const auto output = output_of(layer, path);
    for (const std::int64_t first : {0, 9900, 19900}) {
      Layer part = layer;
      part.options.tokens = 100;
      part.logits.assign(layer.logits.begin() + first * 8, layer.logits.begin() + (first + 100) * 8);
      part.hidden.assign(layer.hidden.begin() + first * 2048, layer.hidden.begin() + (first + 100) * 2048);
      for (std::int64_t block = 0; block < 16; ++block) {
        for (std::int64_t t = 0; t < 100; ++t) {
          part.hidden_scale[static_cast<std::size_t>(block * 100 + t)] =
              layer.hidden_scale[static_cast<std::size_t>(block * 20000 + first + t)];
        }
      }
      const auto alone = output_of(part, path);
      double error = 0.0;
      double norm = 0.0;
      for (std::size_t i = 0; i < alone.size(); ++i) {
        const double expected = contract::bf16_decode(alone[i]);
        const double difference = contract::bf16_decode(output[static_cast<std::size_t>(first * 2048) + i]) - expected;
        error += difference * difference;
        norm += expected * expected;
      }
      EXPECT_LE(std::sqrt(error / norm), 0.005) << "tokens from " << first;  // rows rounded to 16 bits on the way
    }
  }
}

TEST_F(OperatorTest, a_layer_runs_after_one_with_fewer_experts_was_bound) {
  const Layer layer = draw_layer(options_of(128, 128, 256, 256, 8, 40));
  const Layer fewer = draw_layer(options_of(128, 128, 8, 8, 2, 40));
  const DeviceCall call(layer);
  const DeviceCall other_call(fewer);
  for (const Path path : paths_here(layer.geometry())) {
    SCOPED_TRACE(name_of(path));
    const auto bind = [&](const Layer& of, const DeviceCall& on, kernels::Bound* bound) {
      kernels::Request request;
      request.geometry = of.geometry();
      request.max_tokens = 40;
      request.device = device_here();
      request.path = path;
      ASSERT_TRUE(kernels::bind(kernels::make_plan(request), on.weights, bound).ok());
    };
    kernels::Bound bound;
    kernels::Bound other;
    bind(layer, call, &bound);
    bind(fewer, other_call, &other);
    const DeviceArray<std::uint8_t> workspace(bound.plan.workspace_bytes);
    const kernels::Error error = kernels::launch(bound, call.activations, workspace.get(), nullptr);
    EXPECT_TRUE(error.ok()) << error.kernel << ": " << kernels::error_text(error);
    EXPECT_EQ(cudaSuccess, cudaDeviceSynchronize());
  }
}

// What bind() remembers of a device's context is not true of the next one.
TEST_F(OperatorTest, a_call_runs_after_its_device_was_reset) {
  const Layer layer = draw_layer(small_options(10));
  for (const Path path : paths_here(layer.geometry())) {
    SCOPED_TRACE(name_of(path));
    const auto before = output_of(layer, path);
    ASSERT_EQ(cudaSuccess, cudaDeviceReset());
    EXPECT_EQ(before, output_of(layer, path));
  }
}

TEST_F(OperatorTest, a_refused_launch_names_its_kernel) {
  const Layer layer = draw_layer(small_options(10));
  const DeviceCall call(layer);
  kernels::Request request;
  request.geometry = layer.geometry();
  request.max_tokens = 10;
  request.device = device_here();
  request.path = Path::portable;
  const kernels::Plan plan = kernels::make_plan(request);
  const DeviceArray<std::uint8_t> workspace(plan.workspace_bytes);
  kernels::Bound bound;
  ASSERT_TRUE(kernels::bind(plan, call.weights, &bound).ok());
  bound.plan.request.device.sm_count = 0;  // an empty grid, which the runtime refuses
  const kernels::Error error = kernels::launch(bound, call.activations, workspace.get(), nullptr);
  EXPECT_FALSE(error.ok());
  EXPECT_STREQ("gemm1", error.kernel);
  EXPECT_STRNE("", kernels::error_text(error));
  cudaDeviceSynchronize();
  cudaGetLastError();
}

}  // namespace
}  // namespace blockmoe::test
