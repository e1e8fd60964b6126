// Calls whose intermediate has two terms (contract/intermediate.h), on every path that offers it, against the FP64 oracle that does not
// requantise. Widths of hopper's kernels, terms that share a slot of its ring and terms with a slot each, swapped and straight tiles
// meet: up to 24 rows an expert, 64, 128 and more.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "contract/e4m3.h"
#include "gates.hpp"
#include "gpu_test.hpp"
#include "layer.hpp"
#include "nan_weights.hpp"
#include "verify/compare.hpp"
#include "verify/oracle.hpp"

namespace blockmoe::test {
namespace {

using contract::IntermediateType;
using kernels::Path;

using IntermediateTypeTest = GpuTest;

LayerOptions options_of(const contract::Geometry& geometry, std::int64_t tokens) {
  LayerOptions options;
  options.geometry = geometry;
  options.tokens = tokens;
  options.intermediate_type = IntermediateType::e4m3x2;
  return options;
}

// T / 8 rows an expert.
LayerOptions small_options(std::int64_t tokens) {
  LayerOptions options = options_of({512, 1024, 32, 8, 4, 1, 1}, tokens);
  options.local_expert_offset = 8;
  return options;
}

std::vector<Path> paths_with_two_terms(const Layer& layer) {
  std::vector<Path> paths;
  for (const Path path : paths_here(layer.geometry())) {
    kernels::Request request = request_of(layer.geometry(), layer.tokens(), path);
    request.intermediate_type = layer.options.intermediate_type;
    std::string why_not;
    if (kernels::supports(request, &why_not)) paths.push_back(path);
  }
  EXPECT_FALSE(paths.empty());
  return paths;
}

verify::OracleResult oracle_of(const Layer& layer) {
  const HostCall host(layer);
  verify::OracleOptions options;
  options.scope = verify::OracleScope::full;
  return verify::run_oracle(layer.geometry(), host.weights, host.activations, options);
}

// Few values scatter: their rounding to bf16 does.
constexpr std::int64_t kFewValues = 8192;

void check(const Layer& layer) {
  const verify::OracleResult oracle = oracle_of(layer);
  const bool few = layer.tokens() * layer.geometry().hidden < kFewValues || layer.geometry().intermediate < 1024;
  const verify::Gates gates = few ? two_term_gates_of_narrow_layers() : two_term_gates();
  for (const Path path : paths_with_two_terms(layer)) {
    SCOPED_TRACE(name_of(path));
    const std::vector<std::uint16_t> output = output_of(layer, path);
    const verify::Comparison result = verify::compare(oracle, output.data(), layer.output_pitch(), {}, gates);
    EXPECT_TRUE(result.within_gates) << result.fault;
    EXPECT_TRUE(output == output_of(layer, path)) << "other bits the second time";
  }
}

TEST_F(IntermediateTypeTest, two_terms_hold_their_gate_at_every_number_of_rows) {
  std::uint32_t seed = 500;
  for (const std::int64_t tokens : {1, 2, 7, 16, 32, 33, 64, 100, 240, 241, 500, 900, 2000}) {
    for (const bool other_layout : {false, true}) {
      SCOPED_TRACE("T " + std::to_string(tokens) + (other_layout ? ", pitched, gate rows first" : ""));
      LayerOptions options = small_options(tokens);
      options.seed = seed++;
      options.gate_first = other_layout;
      options.extra_pitch = other_layout ? 1 : 0;
      check(draw_layer(options));
    }
  }
}

TEST_F(IntermediateTypeTest, two_terms_hold_their_gate_at_every_geometry_from_one_block_up) {
  for (const std::int64_t hidden : {128, 256, 640, 1152}) {
    for (const std::int64_t intermediate : {128, 384, 512}) {
      for (const std::int64_t tokens : {40, 400}) {
        SCOPED_TRACE("H " + std::to_string(hidden) + " I " + std::to_string(intermediate) + " T " +
                     std::to_string(tokens));
        check(draw_layer(options_of({hidden, intermediate, 16, 16, 4, 1, 1}, tokens)));
      }
    }
  }
}

// DeepSeek-V3's layer: few rows, as many as a decoding step has, and tiles of many.
TEST_F(IntermediateTypeTest, two_terms_hold_their_gate_in_the_layer_of_deepseek_v3) {
  for (const std::int64_t tokens : {1, 8, 64, 300}) {
    SCOPED_TRACE(tokens);
    check(draw_layer(options_of({7168, 2048, 8, 2, 4, 1, 1}, tokens)));
  }
  LayerOptions options = options_of({}, 64);  // its own routing
  options.geometry.local_experts = 2;
  options.local_expert_offset = 100;
  check(draw_layer(options));
}

// What a kernel leaves before the output's rounding.
TEST_F(IntermediateTypeTest, two_terms_lose_less_than_a_thousandth_before_the_output_is_rounded) {
  for (const std::int64_t tokens : {7, 100, 900}) {
    const Layer layer = draw_layer(small_options(tokens));
    const verify::OracleResult oracle = oracle_of(layer);
    for (const Path path : paths_with_two_terms(layer)) {
      SCOPED_TRACE(std::string(name_of(path)) + " T " + std::to_string(tokens));
      DeviceCall call(layer);
      call.want_f32();
      run_call(call, layer.geometry(), path);
      const std::vector<float> output = call.f32_output();
      double error = 0.0, norm = 0.0;
      for (std::int64_t t = 0; t < tokens; ++t) {
        if (oracle.first_row[static_cast<std::size_t>(t) + 1] - oracle.first_row[static_cast<std::size_t>(t)] != 1)
          continue;
        const double* const expected = oracle.plain_row(oracle.first_row[static_cast<std::size_t>(t)]);
        for (std::int64_t h = 0; h < layer.geometry().hidden; ++h) {
          const double difference = output[static_cast<std::size_t>(t * layer.output_pitch() + h)] - expected[h];
          error += difference * difference;
          norm += expected[h] * expected[h];
        }
      }
      EXPECT_LE(std::sqrt(error / norm), 0.001);
    }
  }
}

TEST_F(IntermediateTypeTest, all_tokens_on_one_expert) {
  for (const std::int64_t tokens : {1, 8, 9, 16, 17, 24, 25, 32, 40, 65, 300}) {
    SCOPED_TRACE(tokens);
    Layer layer = draw_layer(small_options(tokens));
    for (std::int64_t t = 0; t < tokens; ++t) layer.logits[static_cast<std::size_t>(t * 32 + 11)] = 40.0F;
    check(layer);
  }
}

TEST_F(IntermediateTypeTest, a_call_without_local_picks_writes_zeros) {
  for (const std::int64_t tokens : {100, 2000}) {
    LayerOptions options = small_options(tokens);
    options.local_expert_offset = 1000;
    const Layer layer = draw_layer(options);
    for (const Path path : paths_with_two_terms(layer)) {
      SCOPED_TRACE(std::string(name_of(path)) + " T " + std::to_string(tokens));
      const auto output = output_of(layer, path);
      EXPECT_TRUE(std::all_of(output.begin(), output.end(), [](std::uint16_t x) { return x == 0; }));
    }
  }
}

TEST_F(IntermediateTypeTest, a_nan_in_a_token_stays_in_that_token) {
  for (const std::int64_t tokens : {24, 90, 600}) {
    const Layer clean = draw_layer(small_options(tokens));
    Layer layer = clean;
    const std::int64_t nan_token = tokens / 2, inf_token = tokens - 3;
    layer.hidden[static_cast<std::size_t>(nan_token * layer.hidden_pitch() + 200)] = contract::kE4m3NaN;
    layer.hidden_scale[static_cast<std::size_t>(2 * layer.hidden_scale_pitch() + inf_token)] =
        std::numeric_limits<float>::infinity();
    for (const Path path : paths_with_two_terms(clean)) {
      SCOPED_TRACE(std::string(name_of(path)) + " T " + std::to_string(tokens));
      const auto expected = output_of(clean, path), found = output_of(layer, path);
      for (std::size_t i = 0; i < found.size(); ++i) {
        const std::int64_t token = static_cast<std::int64_t>(i) / clean.output_pitch();
        if (token == nan_token || token == inf_token) continue;
        ASSERT_EQ(expected[i], found[i]) << "token " << token;
      }
    }
    check(layer);
  }
}

TEST_F(IntermediateTypeTest, a_nan_in_an_experts_weights_reaches_only_tokens_that_picked_it) {
  for (const std::int64_t tokens : {24, 600}) {
    const Layer clean = draw_layer(small_options(tokens));
    for_each_nan_in_an_experts_weights(clean, [&](const Layer& layer, const std::vector<bool>& untouched) {
      for (const Path path : paths_with_two_terms(clean)) {
        SCOPED_TRACE(std::string(name_of(path)) + " T " + std::to_string(tokens));
        const auto expected = output_of(clean, path), found = output_of(layer, path);
        for (std::size_t i = 0; i < found.size(); ++i) {
          const auto token = i / static_cast<std::size_t>(clean.output_pitch());
          if (!untouched[token]) continue;
          ASSERT_EQ(expected[i], found[i]) << "token " << token;
        }
      }
      check(layer);
    });
  }
}

TEST_F(IntermediateTypeTest, any_number_of_multiprocessors_holds_the_gate) {
  const Layer layer = draw_layer(small_options(120));
  const verify::OracleResult oracle = oracle_of(layer);
  for (const Path path : paths_with_two_terms(layer)) {
    for (const std::int32_t sms : {1, 2, 37, 100}) {
      SCOPED_TRACE(std::string(name_of(path)) + " on " + std::to_string(sms));
      const auto output = output_of(layer, path, sms);
      EXPECT_EQ(output, output_of(layer, path, sms));
      const auto result = verify::compare(oracle, output.data(), layer.output_pitch(), {}, two_term_gates());
      EXPECT_TRUE(result.within_gates) << result.fault;
    }
  }
}

// A larger plan decides nothing but the workspace's size.
TEST_F(IntermediateTypeTest, a_plan_for_more_tokens_gives_the_same_bits) {
  const Layer layer = draw_layer(small_options(60));
  for (const Path path : paths_with_two_terms(layer)) {
    SCOPED_TRACE(name_of(path));
    const DeviceCall call(layer);
    kernels::Request request = request_of(layer.geometry(), 5000, path);
    request.intermediate_type = layer.options.intermediate_type;
    run_call(call, request);
    EXPECT_EQ(output_of(layer, path), call.output());
  }
}

}  // namespace
}  // namespace blockmoe::test
