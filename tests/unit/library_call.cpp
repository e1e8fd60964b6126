#include "library_call.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace blockmoe::test {
namespace {

constexpr std::uint16_t kUntouched = 0x5a5a;
constexpr std::size_t kGuard = 256;  // elements before and after the rows

std::size_t to_alignment(const void* address, std::size_t alignment) {
  return (alignment - reinterpret_cast<std::uintptr_t>(address) % alignment) % alignment;
}

DType dtype_of(contract::FloatType type) {
  return type == contract::FloatType::f32 ? DType::float32 : DType::bfloat16;
}

Geometry public_geometry(const contract::Geometry& g) {
  Geometry geometry;
  geometry.experts = g.experts;
  geometry.hidden = g.hidden;
  geometry.intermediate = g.intermediate;
  geometry.local_experts = g.local_experts;
  geometry.top_k = g.top_k;
  geometry.n_group = g.n_group;
  geometry.topk_group = g.topk_group;
  return geometry;
}

Weights public_weights(const RandomCall& call) {
  const contract::Geometry& g = call.geometry();
  const contract::Weights& from = call.weights();
  const std::int64_t experts = g.local_experts;
  Weights weights;
  weights.local_expert_offset = from.local_expert_offset;
  weights.routed_scaling_factor = from.routed_scaling_factor;
  if (from.routing_bias != nullptr) {
    weights.routing_bias = Tensor::contiguous(from.routing_bias, dtype_of(from.routing_bias_type), {}, {g.experts});
  }
  weights.gemm1_weights = Tensor::contiguous(from.w13, DType::float8_e4m3, {}, {experts, 2 * g.intermediate, g.hidden});
  weights.gemm1_weights_scale =
      Tensor::contiguous(from.w13_scale, DType::float32, {}, {experts, 2 * g.intermediate_blocks(), g.hidden_blocks()});
  weights.gemm2_weights = Tensor::contiguous(from.w2, DType::float8_e4m3, {}, {experts, g.hidden, g.intermediate});
  weights.gemm2_weights_scale =
      Tensor::contiguous(from.w2_scale, DType::float32, {}, {experts, g.hidden_blocks(), g.intermediate_blocks()});
  return weights;
}

Activations public_activations(const RandomCall& call, std::int64_t first, std::int64_t count) {
  const contract::Geometry& g = call.geometry();
  const contract::Activations& from = call.activations();
  const std::int64_t logit_bytes = from.routing_logits_type == contract::FloatType::f32 ? 4 : 2;
  const auto* const logits = static_cast<const std::uint8_t*>(from.routing_logits);
  Activations activations;
  activations.routing_logits =
      Tensor::pitched(logits + first * from.routing_logits_pitch * logit_bytes, dtype_of(from.routing_logits_type), {},
                      count, g.experts, from.routing_logits_pitch);
  activations.hidden_states = Tensor::pitched(from.hidden + first * from.hidden_pitch, DType::float8_e4m3, {}, count,
                                              g.hidden, from.hidden_pitch);
  activations.hidden_states_scale =
      Tensor::pitched(from.hidden_scale + first, DType::float32, {}, g.hidden_blocks(), count, from.hidden_scale_pitch);
  return activations;
}

PreroutedActivations prerouted_activations(const RandomCall& call, const std::vector<std::int32_t>& ids,
                                           const std::vector<float>& weights) {
  const std::int64_t tokens = call.recipe().tokens;
  const std::int64_t picks = call.geometry().top_k;
  const Activations whole = public_activations(call, 0, tokens);
  PreroutedActivations activations;
  activations.topk_ids = Tensor::contiguous(ids.data(), DType::int32, {}, {tokens, picks});
  activations.topk_weights = Tensor::contiguous(weights.data(), DType::float32, {}, {tokens, picks});
  activations.hidden_states = whole.hidden_states;
  activations.hidden_states_scale = whole.hidden_states_scale;
  return activations;
}

// run(bound, workspace) on the call's plan; its Status is an expectation of the running test.
template <typename Run>
void on_bound_plan(const RandomCall& call, int threads, const Run& run) {
  Options options;
  options.backend = Backend::cpu;
  options.gate_first = call.recipe().gate_first;
  options.max_threads = threads;
  options.pruning = {call.recipe().pruning.max_local_picks, call.recipe().pruning.min_weight_share};
  if (call.recipe().intermediate_type == contract::IntermediateType::e4m3x2) {
    options.intermediate_type = IntermediateType::e4m3x2;
  }
  const Result<DeviceInfo> device = query_device(Device{});
  const Result<Plan> plan =
      Plan::create(public_geometry(call.geometry()), call.recipe().tokens, device.value(), options);
  ASSERT_TRUE(plan.ok()) << plan.status().message() << ": " << call.recipe();
  const Result<BoundPlan> bound = plan.value().bind(public_weights(call));
  ASSERT_TRUE(bound.ok()) << bound.status().message() << ": " << call.recipe();
  const WorkspaceNeed need = plan.value().workspace();
  // Garbage, where a plan doesn't ask for zeros.
  std::vector<std::uint8_t> workspace(need.bytes + need.alignment, need.init == WorkspaceInit::anything ? 0xa5 : 0);
  std::uint8_t* const aligned = workspace.data() + to_alignment(workspace.data(), need.alignment);
  const Status status = run(bound.value(), Workspace{aligned, need.bytes});
  EXPECT_TRUE(status.ok()) << status.message() << ": " << call.recipe();
}

// A call of `count` tokens: run(bound, output, workspace) makes it.
template <typename Run>
LibraryOutput run_call(const RandomCall& call, std::int64_t count, int threads, const Run& run) {
  LibraryOutput output;
  output.tokens = count;
  output.width = call.geometry().hidden;
  output.pitch = output.width + (call.recipe().pitched ? 24 : 0);
  output.memory.assign(static_cast<std::size_t>(count * output.pitch) + 3 * kGuard, kUntouched);
  output.first = kGuard + to_alignment(output.memory.data() + kGuard, 256) / sizeof(std::uint16_t);
  const Tensor rows =
      Tensor::pitched(output.memory.data() + output.first, DType::bfloat16, {}, count, output.width, output.pitch);
  on_bound_plan(call, threads,
                [&](const BoundPlan& bound, const Workspace& workspace) { return run(bound, rows, workspace); });
  return output;
}

}  // namespace

std::vector<std::uint16_t> LibraryOutput::packed() const {
  std::vector<std::uint16_t> values;
  for (std::int64_t t = 0; t < tokens; ++t) values.insert(values.end(), row(t), row(t) + width);
  return values;
}

bool LibraryOutput::surroundings_are_untouched() const {
  for (std::size_t i = 0; i < memory.size(); ++i) {
    const std::int64_t at = static_cast<std::int64_t>(i) - static_cast<std::int64_t>(first);
    const bool in_rows = at >= 0 && at < tokens * pitch && at % pitch < width;
    if (!in_rows && memory[i] != kUntouched) return false;
  }
  return true;
}

LibraryOutput run_tokens(const RandomCall& call, std::int64_t first, std::int64_t count, int threads) {
  return run_call(call, count, threads, [&](const BoundPlan& bound, const Tensor& output, const Workspace& workspace) {
    return bound.run(public_activations(call, first, count), output, workspace);
  });
}

LibraryOutput run_prerouted(const RandomCall& call, const std::vector<std::int32_t>& ids,
                            const std::vector<float>& weights) {
  const PreroutedActivations activations = prerouted_activations(call, ids, weights);
  return run_call(call, call.recipe().tokens, 0,
                  [&](const BoundPlan& bound, const Tensor& output, const Workspace& workspace) {
                    return bound.run_prerouted(activations, output, workspace);
                  });
}

LibraryPicks route(const RandomCall& call) {
  const std::int64_t tokens = call.recipe().tokens;
  const std::int64_t picks = call.geometry().top_k;
  LibraryPicks routed;
  routed.ids.assign(static_cast<std::size_t>(tokens * picks), -2);
  routed.weights.assign(routed.ids.size(), -1.0F);
  on_bound_plan(call, 0, [&](const BoundPlan& bound, const Workspace&) {
    return bound.route(public_activations(call, 0, tokens).routing_logits,
                       Tensor::contiguous(routed.ids.data(), DType::int32, {}, {tokens, picks}),
                       Tensor::contiguous(routed.weights.data(), DType::float32, {}, {tokens, picks}));
  });
  return routed;
}

std::vector<float> run_f32(const RandomCall& call, const LibraryPicks* picks) {
  constexpr float kUnwritten = -12345.0F;
  const std::int64_t tokens = call.recipe().tokens;
  const std::int64_t width = call.geometry().hidden;
  const std::int64_t pitch = width + (call.recipe().pitched ? 12 : 0);
  std::vector<float> memory(static_cast<std::size_t>(tokens * pitch) + 2 * kGuard, kUnwritten);
  const std::size_t before = to_alignment(memory.data(), 256) / sizeof(float);
  float* const first = memory.data() + before;
  const Tensor rows = Tensor::pitched(first, DType::float32, {}, tokens, width, pitch);
  on_bound_plan(call, 0, [&](const BoundPlan& bound, const Workspace& workspace) {
    return picks == nullptr
               ? bound.run(public_activations(call, 0, tokens), rows, workspace)
               : bound.run_prerouted(prerouted_activations(call, picks->ids, picks->weights), rows, workspace);
  });
  std::vector<float> packed;
  for (const float& element : memory) {
    const std::int64_t at = &element - first;
    const bool in_rows = at >= 0 && at < tokens * pitch && at % pitch < width;
    if (in_rows) packed.push_back(element);
    EXPECT_TRUE(in_rows || element == kUnwritten) << at;
  }
  return packed;
}

LibraryOutput run_library(const RandomCall& call, int threads) {
  return run_tokens(call, 0, call.recipe().tokens, threads);
}

}  // namespace blockmoe::test
