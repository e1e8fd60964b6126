// Tensors of more than 2^31 elements: offsets must be 64 bits wide. Too large for a host oracle, so a large call is held
// against a small one on the same values.
#include <cmath>
#include <cstdint>
#include <vector>

#include "contract/e4m3.h"
#include "gpu_test.hpp"
#include "layer.hpp"

namespace blockmoe::test {
namespace {

using contract::Geometry;
using kernels::Path;

using OffsetsTest = GpuTest;

template <typename T>
void copy_rows(T* to, std::int64_t to_pitch, const T* from, std::int64_t from_pitch, std::int64_t width,
               std::int64_t height) {
  ASSERT_EQ(cudaSuccess,
            cudaMemcpy2D(to, static_cast<std::size_t>(to_pitch) * sizeof(T), from,
                         static_cast<std::size_t>(from_pitch) * sizeof(T), static_cast<std::size_t>(width) * sizeof(T),
                         static_cast<std::size_t>(height), cudaMemcpyDeviceToDevice));
}

bool has_room(std::int64_t bytes) {
  std::size_t free = 0;
  std::size_t total = 0;
  return cudaMemGetInfo(&free, &total) == cudaSuccess && free > static_cast<std::size_t>(bytes);
}

// A call of few tokens keeps gemm2's rows in f32, one of many in 16 bits (plan/sizes.h), so their outputs differ by roundings.
double relative_difference(const std::vector<std::uint16_t>& expected, const std::vector<std::uint16_t>& found) {
  double difference = 0;
  double norm = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double value = contract::bf16_decode(expected[i]);
    const double off = contract::bf16_decode(found[i]) - value;
    difference += off * off;
    norm += value * value;
  }
  return std::sqrt(difference / norm);
}

std::vector<std::uint16_t> fetch(const std::uint16_t* from, std::int64_t count) {
  std::vector<std::uint16_t> values(static_cast<std::size_t>(count));
  EXPECT_EQ(cudaSuccess, cudaMemcpy(values.data(), from, values.size() * 2, cudaMemcpyDeviceToHost));
  return values;
}

// 2^20 tokens of 4096 values: hidden states and output of 2^32 elements. Every block of `kPart` tokens repeats a small call.
TEST_F(OffsetsTest, tokens_by_hidden_past_two_to_the_31) {
  constexpr std::int64_t kTokens = 1 << 20;
  constexpr std::int64_t kPart = 1 << 12;
  constexpr std::int64_t kHidden = 4096;
  if (!has_room(20LL << 30)) GTEST_SKIP() << "needs 20 GiB of device memory";
  LayerOptions options;
  options.geometry = {kHidden, 128, 32, 4, 4, 1, 1};
  options.tokens = kPart;
  const Layer layer = draw_layer(options);
  const Geometry& g = options.geometry;
  const DeviceCall small(layer);

  const DeviceArray<float> logits(static_cast<std::size_t>(kTokens * g.experts));
  const DeviceArray<std::uint8_t> hidden(static_cast<std::size_t>(kTokens * kHidden));
  const DeviceArray<float> hidden_scale(static_cast<std::size_t>(kTokens * g.hidden_blocks()));
  const DeviceArray<std::uint16_t> output(static_cast<std::size_t>(kTokens * kHidden));
  for (std::int64_t t = 0; t < kTokens; t += kPart) {
    const auto* const from = static_cast<const float*>(small.activations.routing_logits);
    copy_rows(logits.get() + t * g.experts, g.experts, from, g.experts, g.experts, kPart);
    copy_rows(hidden.get() + t * kHidden, kHidden, small.activations.hidden, kHidden, kHidden, kPart);
    copy_rows(hidden_scale.get() + t, kTokens, small.activations.hidden_scale, kPart, kPart, g.hidden_blocks());
  }
  DeviceCall large(draw_layer([&] {
    LayerOptions one = options;
    one.tokens = 1;
    return one;
  }()));
  large.weights = small.weights;
  large.activations = small.activations;
  large.activations.tokens = kTokens;
  large.activations.routing_logits = logits.get();
  large.activations.hidden = hidden.get();
  large.activations.hidden_scale = hidden_scale.get();
  large.activations.hidden_scale_pitch = kTokens;
  large.activations.output = output.get();
  for (const Path path : paths_here(g)) {
    SCOPED_TRACE(name_of(path));
    run_call(small, g, path);
    const auto expected = small.output();
    run_call(large, g, path);
    for (const std::int64_t t : {std::int64_t{0}, kTokens / 2 - kPart, kTokens / 2, kTokens - kPart}) {
      EXPECT_LE(relative_difference(expected, fetch(output.get() + t * kHidden, kPart * kHidden)), 0.005)
          << "tokens from " << t;
    }
  }
}

// 96 experts of 2 x 2048 x 7168: w13 has 2.8e9 elements. The last expert's weights are those of a layer with one expert.
TEST_F(OffsetsTest, experts_by_weights_past_two_to_the_31) {
  if (!has_room(12LL << 30)) GTEST_SKIP() << "needs 12 GiB of device memory";
  constexpr std::int32_t kExperts = 96;
  LayerOptions options;
  options.geometry = {7168, 2048, kExperts, 1, 1, 1, 1};
  options.tokens = 20;
  options.local_expert_offset = kExperts - 1;
  options.has_bias = false;
  Layer layer = draw_layer(options);
  for (std::int64_t t = 0; t < options.tokens; ++t) {
    layer.logits[static_cast<std::size_t>(t * kExperts + kExperts - 1)] = 30.0F;
  }
  const DeviceCall small(layer);
  Geometry g = options.geometry;
  g.local_experts = kExperts;
  const std::int64_t w13 = 2 * g.intermediate * g.hidden;
  const std::int64_t w2 = g.intermediate * g.hidden;
  const DeviceArray<std::uint8_t> w13s(static_cast<std::size_t>(w13 * kExperts));
  const DeviceArray<std::uint8_t> w2s(static_cast<std::size_t>(w2 * kExperts));
  const DeviceArray<float> w13_scales(static_cast<std::size_t>(w13 / 16384 * kExperts));
  const DeviceArray<float> w2_scales(static_cast<std::size_t>(w2 / 16384 * kExperts));
  const std::int64_t last = kExperts - 1;
  copy_rows(w13s.get() + last * w13, w13, small.weights.w13, w13, w13, 1);
  copy_rows(w2s.get() + last * w2, w2, small.weights.w2, w2, w2, 1);
  copy_rows(w13_scales.get() + last * w13 / 16384, w13 / 16384, small.weights.w13_scale, w13 / 16384, w13 / 16384, 1);
  copy_rows(w2_scales.get() + last * w2 / 16384, w2 / 16384, small.weights.w2_scale, w2 / 16384, w2 / 16384, 1);
  for (const Path path : paths_here(g)) {
    SCOPED_TRACE(name_of(path));
    run_call(small, options.geometry, path);
    const auto expected = small.output();
    DeviceCall large(layer);
    large.weights.w13 = w13s.get();
    large.weights.w2 = w2s.get();
    large.weights.w13_scale = w13_scales.get();
    large.weights.w2_scale = w2_scales.get();
    large.weights.local_expert_offset = 0;
    run_call(large, g, path);
    EXPECT_EQ(expected, large.output());
  }
}

// The last token's picks begin 2^31 elements behind the first's. Ids and weights stand in one buffer, to need half of it.
TEST_F(OffsetsTest, rows_of_picks_past_two_to_the_31) {
  constexpr std::int64_t kTokens = 65;
  constexpr std::int64_t kPitch = std::int64_t{1} << 25;
  if (!has_room(9LL << 30)) GTEST_SKIP() << "needs 9 GiB of device memory";
  LayerOptions options;
  options.geometry = {256, 128, 16, 8, 4, 1, 1};
  options.tokens = kTokens;
  const Layer layer = draw_layer(options);
  const Geometry& g = options.geometry;
  const HostCall host(layer);
  const GivenPicks picks = picks_of_routing(g, host.weights, host.activations);
  DeviceCall together(layer);
  together.take(picks);
  DeviceCall apart(layer);
  apart.take(picks);
  const DeviceArray<std::int32_t> rows(static_cast<std::size_t>((kTokens - 1) * kPitch + 2 * g.top_k));
  auto* const weights = reinterpret_cast<float*>(rows.get()) + g.top_k;
  const contract::Picks& near = *together.given_picks;
  copy_rows(rows.get(), kPitch, near.experts, near.experts_pitch, g.top_k, kTokens);
  copy_rows(weights, kPitch, near.weights, near.weights_pitch, g.top_k, kTokens);
  apart.given_picks = {rows.get(), kPitch, weights, kPitch};
  for (const Path path : paths_here(g)) {
    SCOPED_TRACE(name_of(path));
    run_call(together, g, path);
    run_call(apart, g, path);
    EXPECT_EQ(together.output(), apart.output());
  }
}

}  // namespace
}  // namespace blockmoe::test
