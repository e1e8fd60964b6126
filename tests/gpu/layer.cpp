#include "layer.hpp"

#include <array>
#include <cstring>
#include <random>

#include "blackwell/blackwell.h"
#include "contract/e4m3.h"
#include "hopper/hopper.h"
#include "measure/cuda_check.hpp"
#include "path.h"
#include "portable/portable.h"
#include "stages/stages.h"

namespace blockmoe::test {
namespace {

using contract::FloatType;

std::size_t size(std::int64_t count) {
  return static_cast<std::size_t>(count);
}

std::vector<std::uint8_t> draw_codes(std::int64_t count, std::mt19937& engine) {
  std::array<std::uint8_t, 4096> table;
  std::normal_distribution<float> normal;
  for (std::uint8_t& code : table) code = contract::e4m3_encode(normal(engine));
  std::vector<std::uint8_t> codes(size(count));
  for (std::uint8_t& code : codes) code = table[engine() % table.size()];
  return codes;
}

std::vector<float> draw_floats(std::int64_t count, float deviation, std::mt19937& engine) {
  std::normal_distribution<float> normal(0.0F, deviation);
  std::vector<float> values(size(count));
  for (float& value : values) value = normal(engine);
  return values;
}

// `rows` rows of `width` floats as bytes of `type`, `pitch` elements apart; the gaps are NaN.
std::vector<std::uint8_t> bytes_of(const std::vector<float>& values, std::int64_t rows, std::int64_t width,
                                   std::int64_t pitch, FloatType type) {
  const std::size_t element = type == FloatType::f32 ? 4 : 2;
  std::vector<std::uint8_t> bytes(size(rows * pitch) * element, 0xff);
  if (type == FloatType::f32 && pitch == width) {
    std::memcpy(bytes.data(), values.data(), bytes.size());
    return bytes;
  }
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < width; ++c) {
      const float value = values[size(r * width + c)];
      std::uint8_t* const at = bytes.data() + size(r * pitch + c) * element;
      const std::uint16_t rounded = contract::bf16_encode(value);
      if (type == FloatType::f32) {
        std::memcpy(at, &value, sizeof value);
      } else {
        std::memcpy(at, &rounded, sizeof rounded);
      }
    }
  }
  return bytes;
}

std::vector<std::uint8_t> logit_bytes(const Layer& layer) {
  return bytes_of(layer.logits, layer.tokens(), layer.geometry().experts, layer.logits_pitch(),
                  layer.options.logits_type);
}

std::vector<std::uint8_t> bias_bytes(const Layer& layer) {
  const std::int64_t experts = layer.geometry().experts;
  return bytes_of(layer.bias, 1, experts, experts, layer.options.bias_type);
}

// All that does not depend on where the tensors lie.
void describe(const Layer& layer, contract::Weights* w, contract::Activations* a) {
  w->routing_bias_type = layer.options.bias_type;
  w->local_expert_offset = layer.options.local_expert_offset;
  w->routed_scaling_factor = 2.5F;
  w->gate_first = layer.options.gate_first;
  a->tokens = layer.tokens();
  a->routing_logits_type = layer.options.logits_type;
  a->routing_logits_pitch = layer.logits_pitch();
  a->hidden_pitch = layer.hidden_pitch();
  a->hidden_scale_pitch = layer.hidden_scale_pitch();
  a->output_pitch = layer.output_pitch();
}

kernels::PathEntry entry_of(kernels::Path path) {
  switch (path) {
    case kernels::Path::blackwell:
      return kernels::blackwell::path_entry();
    case kernels::Path::hopper:
      return kernels::hopper::path_entry();
    default:
      return kernels::portable::path_entry();
  }
}

}  // namespace

kernels::Request request_of(const contract::Geometry& geometry, std::int64_t tokens, kernels::Path path) {
  kernels::Request request;
  request.geometry = geometry;
  request.max_tokens = tokens;
  request.device = device_here();
  request.path = path;
  return request;
}

Layer draw_layer(const LayerOptions& options) {
  std::mt19937 engine(options.seed);
  Layer layer;
  layer.options = options;
  const contract::Geometry& g = options.geometry;
  const std::int64_t local = g.local_experts;
  layer.logits = draw_floats(options.tokens * g.experts, 1.0F, engine);
  layer.bias = draw_floats(g.experts, 0.1F, engine);
  layer.hidden = draw_codes(options.tokens * layer.hidden_pitch(), engine);
  layer.hidden_scale = draw_floats(g.hidden_blocks() * layer.hidden_scale_pitch(), 0.0625F, engine);
  layer.w13 = draw_codes(local * 2 * g.intermediate * g.hidden, engine);
  layer.w13_scale = draw_floats(local * 2 * g.intermediate_blocks() * g.hidden_blocks(), 0.0625F, engine);
  layer.w2 = draw_codes(local * g.hidden * g.intermediate, engine);
  layer.w2_scale = draw_floats(local * g.hidden_blocks() * g.intermediate_blocks(), 0.0625F, engine);
  return layer;
}

HostCall::HostCall(const Layer& layer) : logits_(logit_bytes(layer)), bias_(bias_bytes(layer)) {
  describe(layer, &weights, &activations);
  weights.routing_bias = layer.options.has_bias ? bias_.data() : nullptr;
  weights.w13 = layer.w13.data();
  weights.w13_scale = layer.w13_scale.data();
  weights.w2 = layer.w2.data();
  weights.w2_scale = layer.w2_scale.data();
  activations.routing_logits = logits_.data();
  activations.hidden = layer.hidden.data();
  activations.hidden_scale = layer.hidden_scale.data();
}

DeviceCall::DeviceCall(const Layer& layer)
    : logits_(logit_bytes(layer)),
      bias_(bias_bytes(layer)),
      hidden_(layer.hidden),
      w13_(layer.w13),
      w2_(layer.w2),
      hidden_scale_(layer.hidden_scale),
      w13_scale_(layer.w13_scale),
      w2_scale_(layer.w2_scale),
      output_(size(layer.tokens() * layer.output_pitch())) {
  describe(layer, &weights, &activations);
  pruning = layer.options.pruning;
  intermediate_type = layer.options.intermediate_type;
  weights.routing_bias = layer.options.has_bias ? bias_.get() : nullptr;
  weights.w13 = w13_.get();
  weights.w13_scale = w13_scale_.get();
  weights.w2 = w2_.get();
  weights.w2_scale = w2_scale_.get();
  activations.routing_logits = logits_.get();
  activations.hidden = hidden_.get();
  activations.hidden_scale = hidden_scale_.get();
  activations.output = output_.get();
}

void DeviceCall::take(const GivenPicks& picks) {
  given_experts_ = DeviceArray<std::int32_t>(picks.experts);
  given_weights_ = DeviceArray<float>(picks.weights);
  given_picks = {.experts = given_experts_.get(),
                 .experts_pitch = picks.experts_pitch,
                 .weights = given_weights_.get(),
                 .weights_pitch = picks.weights_pitch};
  activations.routing_logits = nullptr;
  activations.routing_logits_pitch = 0;
}

void DeviceCall::want_f32() {
  f32_output_ = DeviceArray<float>(output_.size());
  activations.output = f32_output_.get();
  activations.output_type = contract::FloatType::f32;
}

kernels::Device device_here() {
  cudaDeviceProp properties{};
  EXPECT_EQ(cudaSuccess, cudaGetDeviceProperties(&properties, 0));
  return {10 * properties.major + properties.minor, properties.multiProcessorCount,
          static_cast<std::int32_t>(properties.sharedMemPerBlockOptin)};
}

std::vector<kernels::Path> paths_here(const contract::Geometry& geometry) {
  std::vector<kernels::Path> paths;
  std::string ignored;
  for (const kernels::Path path : {kernels::Path::portable, kernels::Path::hopper, kernels::Path::blackwell}) {
    if (kernels::supports(request_of(geometry, 1, path), &ignored)) paths.push_back(path);
  }
  return paths;
}

std::string_view name_of(kernels::Path path) {
  return entry_of(path).name;
}

void run_call(const DeviceCall& call, const kernels::Request& request) {
  const kernels::Plan plan = kernels::make_plan(request);
  const DeviceArray<std::uint8_t> workspace(plan.workspace_bytes);
  kernels::Bound bound;
  kernels::Error error = kernels::bind(plan, call.weights, &bound);
  ASSERT_TRUE(error.ok()) << error.kernel << ": " << kernels::error_text(error);
  error = call.given_picks
              ? kernels::launch_prerouted(bound, call.activations, *call.given_picks, workspace.get(), nullptr)
              : kernels::launch(bound, call.activations, workspace.get(), nullptr);
  ASSERT_TRUE(error.ok()) << error.kernel << ": " << kernels::error_text(error);
  ASSERT_EQ(cudaSuccess, cudaDeviceSynchronize());
}

void run_call(const DeviceCall& call, const contract::Geometry& geometry, kernels::Path path, std::int32_t max_sms) {
  kernels::Request request = request_of(geometry, call.activations.tokens, path);
  request.max_sms = max_sms;
  request.pruning = call.pruning;
  request.intermediate_type = call.intermediate_type;
  run_call(call, request);
}

std::vector<std::uint16_t> output_of(const Layer& layer, kernels::Path path, std::int32_t max_sms) {
  const DeviceCall call(layer);
  run_call(call, layer.geometry(), path, max_sms);
  return call.output();
}

void run_call_in_fresh_memory(const DeviceCall& call, const contract::Geometry& geometry, kernels::Path path,
                              const kernels::plan::Sizes& given) {
  const kernels::PathEntry entry = entry_of(path);
  kernels::plan::Sizes sizes = given;
  if (sizes.row_type != kernels::plan::RowType::f32) sizes.row_type = entry.many_rows;
  const kernels::Request request = request_of(geometry, call.activations.tokens, path);
  const kernels::plan::Offsets offsets = kernels::plan::offsets_of(geometry, sizes);
  auto workspace = measure::allocate(offsets.bytes + entry.workspace_bytes(request), "workspace");
  ASSERT_TRUE(workspace.ok()) << workspace.status().message();
  std::shared_ptr<const void> state;
  kernels::Error error = entry.bind(kernels::make_plan(request), call.weights, &state);
  ASSERT_TRUE(error.ok()) << error.kernel << ": " << kernels::error_text(error);
  kernels::stages::Slab whole;
  whole.geometry = geometry;
  whole.weights = call.weights;
  whole.activations = call.activations;
  whole.call_tokens = call.activations.tokens;
  whole.given_picks = call.given_picks;
  whole.pruning = call.pruning;
  whole.sizes = sizes;
  whole.workspace = kernels::stages::workspace_at(workspace.value().get(), offsets);
  whole.path_workspace = static_cast<char*>(workspace.value().get()) + offsets.bytes;
  whole.sms = request.device.sm_count;
  for (std::int64_t token = 0; token < call.activations.tokens; token += sizes.slab_tokens) {
    error = entry.launch_slab(kernels::stages::slab_at(whole, token), state.get(), nullptr);
    ASSERT_TRUE(error.ok()) << error.kernel << ": " << kernels::error_text(error);
  }
  ASSERT_EQ(cudaSuccess, cudaDeviceSynchronize());
}

StageCall::StageCall(const DeviceCall& call, const contract::Geometry& geometry, const kernels::plan::Sizes& sizes)
    : workspace_(kernels::plan::offsets_of(geometry, sizes).bytes) {
  slab_.geometry = geometry;
  slab_.weights = call.weights;
  slab_.activations = call.activations;
  slab_.given_picks = call.given_picks;
  slab_.pruning = call.pruning;
  slab_.sizes = sizes;
  slab_.workspace = kernels::stages::workspace_at(workspace_.get(), kernels::plan::offsets_of(geometry, sizes));
  slab_.sms = device_here().sm_count;
  slab_.shared_memory = device_here().shared_memory_per_block;
  EXPECT_TRUE(kernels::stages::prepare_routing().ok());
}

StageCall::StageCall(const DeviceCall& call, const contract::Geometry& geometry)
    : StageCall(call, geometry, kernels::plan::sizes_of(geometry, call.activations.tokens)) {}

kernels::plan::Sizes sizes_with_capacity(const contract::Geometry& geometry, std::int64_t tokens,
                                         std::int64_t row_capacity) {
  kernels::plan::Sizes sizes = kernels::plan::sizes_of(geometry, tokens);
  const std::int64_t full = row_capacity - kernels::plan::kTokenBlock * sizes.picks + 1;
  EXPECT_GT(full, 0);
  sizes.row_capacity = row_capacity;
  sizes.max_chunks = static_cast<std::int32_t>((tokens * sizes.picks + full - 1) / full);
  return sizes;
}

kernels::plan::Sizes sizes_with_slabs(const contract::Geometry& geometry, std::int64_t tokens, std::int64_t slab_tokens,
                                      std::int64_t row_capacity) {
  EXPECT_EQ(0, slab_tokens % kernels::plan::kTokenBlock);
  kernels::plan::Sizes sizes = sizes_with_capacity(geometry, slab_tokens, row_capacity);
  sizes.slabs = (tokens + slab_tokens - 1) / slab_tokens;
  EXPECT_LE(sizes.max_chunks, kernels::plan::kMaxChunks);
  return sizes;
}

}  // namespace blockmoe::test
