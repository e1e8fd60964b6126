// Batch-invariant plans: a token's row has the same bits whatever T, max_tokens and the other tokens are. Batches are cut out of one
// at random, sizes from one token to all, so that every width of kernel, swapped and straight tiles meet.
#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

#include "gpu_test.hpp"
#include "layer.hpp"

namespace blockmoe::test {
namespace {

using BatchInvariantTest = GpuTest;

// Tokens [first, first + tokens) of the call, in its memory.
DeviceCall part_of(const Layer& layer, std::int64_t first, std::int64_t tokens) {
  DeviceCall part(layer);
  contract::Activations& a = part.activations;
  a.tokens = tokens;
  const std::int64_t logit_bytes = a.routing_logits_type == contract::FloatType::f32 ? 4 : 2;
  a.routing_logits = static_cast<const char*>(a.routing_logits) + first * a.routing_logits_pitch * logit_bytes;
  a.hidden += first * a.hidden_pitch;
  a.hidden_scale += first;
  a.output = static_cast<char*>(a.output) + first * a.output_pitch * a.output_bytes();
  return part;
}

void check_parts(const Layer& layer, kernels::Path path, int parts) {
  const std::int64_t tokens = layer.tokens(), pitch = layer.output_pitch();
  const auto request_for = [&](std::int64_t most) {
    kernels::Request request = request_of(layer.geometry(), most, path);
    request.batch_invariant = true;
    request.intermediate_type = layer.options.intermediate_type;
    return request;
  };
  const DeviceCall whole(layer);
  run_call(whole, request_for(tokens));
  const std::vector<std::uint16_t> expected = whole.output();

  std::mt19937 engine(7);
  const auto up_to = [&](std::int64_t most) {
    return static_cast<std::int64_t>(engine() % static_cast<std::uint32_t>(most + 1));
  };
  for (int i = 0; i < parts; ++i) {
    const std::int64_t most = i % 3 == 0 ? 8 : i % 3 == 1 ? 150 : tokens;
    const std::int64_t count = std::min(1 + up_to(most - 1), tokens);
    const std::int64_t first = up_to(tokens - count);
    const DeviceCall part = part_of(layer, first, count);
    run_call(part, request_for(count + (i % 2 == 0 ? 0 : up_to(3000))));
    const std::vector<std::uint16_t> output = part.output();
    const auto begin = static_cast<std::ptrdiff_t>(first * pitch),
               end = static_cast<std::ptrdiff_t>((first + count) * pitch);
    ASSERT_TRUE(std::equal(output.begin() + begin, output.begin() + end, expected.begin() + begin))
        << "tokens " << first << " to " << first + count;
  }
}

LayerOptions small_layer() {
  LayerOptions options;
  options.geometry.hidden = 1152;  // an odd number of column blocks
  options.geometry.intermediate = 384;
  options.geometry.experts = 32;
  options.geometry.local_experts = 8;
  options.geometry.top_k = 8;
  options.geometry.n_group = 4;
  options.geometry.topk_group = 2;
  options.tokens = 1700;  // 425 rows an expert
  options.local_expert_offset = 8;
  return options;
}

TEST_F(BatchInvariantTest, rows_have_the_same_bits_in_batches_of_any_size) {
  const Layer layer = draw_layer(small_layer());
  for (const kernels::Path path : paths_here(layer.geometry())) {
    SCOPED_TRACE(name_of(path));
    check_parts(layer, path, 60);
  }
}

// Terms that share a slot of hopper's ring and terms that have one each meet.
TEST_F(BatchInvariantTest, so_they_have_with_an_intermediate_of_two_terms) {
  LayerOptions options = small_layer();
  options.intermediate_type = contract::IntermediateType::e4m3x2;
  const Layer layer = draw_layer(options);
  for (const kernels::Path path : paths_here(layer.geometry())) {
    SCOPED_TRACE(name_of(path));
    check_parts(layer, path, 60);
  }
}

TEST_F(BatchInvariantTest, the_layer_of_deepseek_v3) {
  LayerOptions options;
  options.geometry.local_experts = 4;
  options.geometry.experts = 32;
  options.geometry.n_group = 1;
  options.geometry.topk_group = 1;
  options.tokens = 400;
  const Layer layer = draw_layer(options);
  for (const kernels::Path path : paths_here(layer.geometry())) {
    SCOPED_TRACE(name_of(path));
    check_parts(layer, path, 12);
  }
}

}  // namespace
}  // namespace blockmoe::test
