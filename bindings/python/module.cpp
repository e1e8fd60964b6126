// module.cpp: the functions that python/blockmoe calls, by TVM-FFI. Shapes and meanings: moe.hpp. Nothing is decided here:
// descriptions are translated, missing memory is allocated, and a Status becomes an exception.
#include <tvm/ffi/tvm_ffi.h>

#include <cstdint>
#include <string>

#include "blockmoe/blockmoe.hpp"
#include "call.hpp"
#include "memory.hpp"
#include "objects.hpp"
#include "plan_cache.hpp"
#include "tensor.hpp"

namespace blockmoe::python {
namespace {

using tvm::ffi::Optional;
using tvm::ffi::TensorView;

constexpr DLDataType kF32{kDLFloat, 32, 1};
constexpr DLDataType kInt32{kDLInt, 32, 1};

Pruning pruning_of(std::int64_t max_local_picks, double min_weight_share) {
  return {to_int32("max_local_picks", max_local_picks), static_cast<float>(min_weight_share)};
}

tvm::ffi::String version() {
  return BLOCKMOE_VERSION;
}

// ---- plans

PlanRef make_plan(std::int64_t max_tokens, std::int64_t experts, std::int64_t hidden, std::int64_t intermediate,
                  std::int64_t local_experts, std::int64_t top_k, std::int64_t n_group, std::int64_t topk_group,
                  const std::string& device, std::int64_t backend, bool gate_first, std::int64_t max_sms,
                  std::int64_t max_threads, std::int64_t max_local_picks, double min_weight_share, bool batch_invariant,
                  std::int64_t intermediate_type, std::int64_t policy, bool trtllm_gemm1, bool trtllm_gemm2,
                  std::int64_t mma_gemm2_m_threshold, std::int64_t trtllm_gemm2_m_threshold) {
  const Geometry geometry = geometry_of(experts, hidden, intermediate, local_experts, top_k, n_group, topk_group);
  Options options;
  options.backend = static_cast<Backend>(backend);
  options.gate_first = gate_first;
  options.max_sms = to_int32("max_sms", max_sms);
  options.max_threads = to_int32("max_threads", max_threads);
  options.pruning = pruning_of(max_local_picks, min_weight_share);
  options.batch_invariant = batch_invariant;
  options.intermediate_type = static_cast<IntermediateType>(intermediate_type);
  options.policy = static_cast<Policy>(policy);
  options.no_trtllm_gemm1 = trtllm_gemm1 ? 0 : 1;
  options.no_trtllm_gemm2 = trtllm_gemm2 ? 0 : 1;
  options.mma_gemm2_m_threshold = to_int32("mma_gemm2_m_threshold", mma_gemm2_m_threshold);
  options.trtllm_gemm2_m_threshold = to_int32("trtllm_gemm2_m_threshold", trtllm_gemm2_m_threshold);
  const DeviceInfo info = device_named(device);
  const Result<Plan> plan = Plan::create(geometry, max_tokens, info, options);
  require_ok(plan.status());
  return PlanRef(tvm::ffi::make_object<PlanObject>(plan.value(), info.device));
}

std::int64_t plan_workspace_bytes(const PlanRef& plan) {
  return static_cast<std::int64_t>(workspace_room(plan->plan.workspace()));
}

std::string plan_path(const PlanRef& plan) {
  return plan->plan.path();
}

std::string plan_explain(const PlanRef& plan) {
  return plan->plan.explain();
}

// ---- bind

BoundPlan bind(const Plan& plan, const Weights& weights) {
  const Result<BoundPlan> bound = plan.bind(weights);
  require_ok(bound.status());
  return bound.value();
}

BoundPlanRef plan_bind(const PlanRef& plan, const OptionalTensor& routing_bias, TensorView gemm1_weights,
                       TensorView gemm1_weights_scale, TensorView gemm2_weights, TensorView gemm2_weights_scale,
                       std::int64_t local_expert_offset, double routed_scaling_factor) {
  const Weights weights = weights_of(routing_bias, gemm1_weights, gemm1_weights_scale, gemm2_weights,
                                     gemm2_weights_scale, local_expert_offset, routed_scaling_factor);
  return BoundPlanRef(
      tvm::ffi::make_object<BoundPlanObject>(bind(plan->plan, weights), plan->plan.workspace(), plan->device));
}

// ---- run

// What a call writes, and where it runs.
struct Destination {
  const WorkspaceNeed& need;
  Device device;
  const OptionalTensor& output;
  const OptionalTensor& workspace;
};

tvm::ffi::Tensor run(const BoundPlan& bound, const TensorView& routing_logits, const TensorView& hidden_states,
                     const TensorView& hidden_states_scale, const Destination& to) {
  const Activations activations = activations_of(routing_logits, hidden_states, hidden_states_scale);
  const tvm::ffi::Tensor output = output_for(to.output, hidden_states, to.device);
  const CallWorkspace workspace(to.workspace, to.need, to.device);
  require_ok(bound.run(activations, view_of("output", TensorView(output)), workspace.get(), stream_of(to.device)));
  return output;
}

tvm::ffi::Tensor run_prerouted(const BoundPlan& bound, const TensorView& topk_ids, const TensorView& topk_weights,
                               const TensorView& hidden_states, const TensorView& hidden_states_scale,
                               const Destination& to) {
  PreroutedActivations activations;
  activations.topk_ids = view_of("topk_ids", topk_ids);
  activations.topk_weights = view_of("topk_weights", topk_weights);
  activations.hidden_states = view_of("hidden_states", hidden_states);
  activations.hidden_states_scale = view_of("hidden_states_scale", hidden_states_scale);
  const tvm::ffi::Tensor output = output_for(to.output, hidden_states, to.device);
  const CallWorkspace workspace(to.workspace, to.need, to.device);
  require_ok(
      bound.run_prerouted(activations, view_of("output", TensorView(output)), workspace.get(), stream_of(to.device)));
  return output;
}

tvm::ffi::Tensor bound_run(const BoundPlanRef& bound, TensorView routing_logits, TensorView hidden_states,
                           TensorView hidden_states_scale, const OptionalTensor& output,
                           const OptionalTensor& workspace) {
  return run(bound->bound, routing_logits, hidden_states, hidden_states_scale,
             {bound->need, bound->device, output, workspace});
}

// topk_ids and topk_weights, the caller's or new ones.
tvm::ffi::Array<tvm::ffi::Tensor> bound_route(const BoundPlanRef& bound, TensorView routing_logits,
                                              const OptionalTensor& topk_ids, const OptionalTensor& topk_weights,
                                              std::int64_t top_k) {
  if (routing_logits.ndim() != 2) refuse("routing_logits", "shape " + text_of(routing_logits.shape()), "[T, E]");
  const tvm::ffi::Shape shape({routing_logits.size(0), top_k});
  const auto given_or_new = [&](const char* argument, const OptionalTensor& given, DLDataType type) {
    return given.has_value() ? given.value() : allocate(argument, shape, type, bound->device);
  };
  const tvm::ffi::Tensor ids = given_or_new("topk_ids", topk_ids, kInt32);
  const tvm::ffi::Tensor weights = given_or_new("topk_weights", topk_weights, kF32);
  require_ok(bound->bound.route(view_of("routing_logits", routing_logits), view_of("topk_ids", TensorView(ids)),
                                view_of("topk_weights", TensorView(weights)), stream_of(bound->device)));
  return {ids, weights};
}

tvm::ffi::Tensor bound_run_prerouted(const BoundPlanRef& bound, TensorView topk_ids, TensorView topk_weights,
                                     TensorView hidden_states, TensorView hidden_states_scale,
                                     const OptionalTensor& output, const OptionalTensor& workspace) {
  return run_prerouted(bound->bound, topk_ids, topk_weights, hidden_states, hidden_states_scale,
                       {bound->need, bound->device, output, workspace});
}

// ---- all of it in one call

void require_rank(const char* argument, const TensorView& tensor, int rank, const char* axes) {
  if (tensor.ndim() != rank) refuse(argument, "shape " + text_of(tensor.shape()), axes);
}

// Sizes that gemm2_weights tells: the plan's, against which the library then checks every tensor.
Geometry geometry_of(const TensorView& gemm2_weights) {
  require_rank("gemm2_weights", gemm2_weights, 3, "[L, H, I]");
  Geometry geometry;
  geometry.local_experts = to_int32("gemm2_weights", gemm2_weights.size(0));
  geometry.hidden = gemm2_weights.size(1);
  geometry.intermediate = gemm2_weights.size(2);
  return geometry;
}

struct Planned {
  Plan plan;
  Device device;
};

Options options_of(bool gate_first, std::int64_t backend, const Pruning& pruning, std::int64_t intermediate_type) {
  Options options;
  options.backend = static_cast<Backend>(backend);
  options.gate_first = gate_first;
  options.pruning = pruning;
  options.intermediate_type = static_cast<IntermediateType>(intermediate_type);
  return options;
}

// The caller's plan, or a kept one for these sizes.
Planned planned(const Optional<PlanRef>& given, const Geometry& geometry, const TensorView& hidden_states,
                const Options& options) {
  if (given.has_value()) return {given.value()->plan, given.value()->device};
  require_rank("hidden_states", hidden_states, 2, "[T, H]");
  const Device device = device_of("hidden_states", hidden_states.device());
  return {plan_for(geometry, hidden_states.size(0), device, options), device};
}

// The bound plan goes when this returns, before its work on a GPU is done: what kernels need of it was copied into their
// launches, as solution/moe.cu counts on too.
tvm::ffi::Tensor fused_moe(TensorView routing_logits, const OptionalTensor& routing_bias, TensorView hidden_states,
                           TensorView hidden_states_scale, TensorView gemm1_weights, TensorView gemm1_weights_scale,
                           TensorView gemm2_weights, TensorView gemm2_weights_scale, std::int64_t local_expert_offset,
                           double routed_scaling_factor, const OptionalTensor& output, std::int64_t top_k,
                           std::int64_t n_group, std::int64_t topk_group, bool gate_first, std::int64_t backend,
                           std::int64_t max_local_picks, double min_weight_share, std::int64_t intermediate_type,
                           const Optional<PlanRef>& given_plan, const OptionalTensor& workspace) {
  const Weights weights = weights_of(routing_bias, gemm1_weights, gemm1_weights_scale, gemm2_weights,
                                     gemm2_weights_scale, local_expert_offset, routed_scaling_factor);
  require_rank("routing_logits", routing_logits, 2, "[T, E]");
  Geometry geometry = geometry_of(gemm2_weights);
  geometry.experts = to_int32("routing_logits", routing_logits.size(1));
  geometry.top_k = to_int32("top_k", top_k);
  geometry.n_group = to_int32("n_group", n_group);
  geometry.topk_group = to_int32("topk_group", topk_group);
  const Planned with =
      planned(given_plan, geometry, hidden_states,
              options_of(gate_first, backend, pruning_of(max_local_picks, min_weight_share), intermediate_type));
  return run(bind(with.plan, weights), routing_logits, hidden_states, hidden_states_scale,
             {with.plan.workspace(), with.device, output, workspace});
}

// The same of a call that its caller has routed. Its groups are none of the plan's business.
tvm::ffi::Tensor fused_moe_prerouted(TensorView topk_ids, TensorView topk_weights, TensorView hidden_states,
                                     TensorView hidden_states_scale, TensorView gemm1_weights,
                                     TensorView gemm1_weights_scale, TensorView gemm2_weights,
                                     TensorView gemm2_weights_scale, std::int64_t local_expert_offset,
                                     const OptionalTensor& output, std::int64_t experts, bool gate_first,
                                     std::int64_t backend, std::int64_t max_local_picks, double min_weight_share,
                                     std::int64_t intermediate_type, const Optional<PlanRef>& given_plan,
                                     const OptionalTensor& workspace) {
  const Weights weights = weights_of(std::nullopt, gemm1_weights, gemm1_weights_scale, gemm2_weights,
                                     gemm2_weights_scale, local_expert_offset, 1.0);
  require_rank("topk_ids", topk_ids, 2, "[T, K]");
  Geometry geometry = geometry_of(gemm2_weights);
  geometry.experts = to_int32("experts", experts);
  geometry.top_k = to_int32("topk_ids", topk_ids.size(1));
  geometry.n_group = 1;
  geometry.topk_group = 1;
  const Planned with =
      planned(given_plan, geometry, hidden_states,
              options_of(gate_first, backend, pruning_of(max_local_picks, min_weight_share), intermediate_type));
  return run_prerouted(bind(with.plan, weights), topk_ids, topk_weights, hidden_states, hidden_states_scale,
                       {with.plan.workspace(), with.device, output, workspace});
}

}  // namespace
}  // namespace blockmoe::python

// TVM-FFI learns the objects' types when the module is loaded.
// NOLINTNEXTLINE(readability-identifier-naming): its macro
TVM_FFI_STATIC_INIT_BLOCK() {
  blockmoe::python::PlanObject::_GetOrAllocRuntimeTypeIndex();
  blockmoe::python::BoundPlanObject::_GetOrAllocRuntimeTypeIndex();
}

TVM_FFI_DLL_EXPORT_TYPED_FUNC(version, blockmoe::python::version);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(make_plan, blockmoe::python::make_plan);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(plan_workspace_bytes, blockmoe::python::plan_workspace_bytes);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(plan_path, blockmoe::python::plan_path);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(plan_explain, blockmoe::python::plan_explain);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(plan_bind, blockmoe::python::plan_bind);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(bound_run, blockmoe::python::bound_run);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(bound_run_prerouted, blockmoe::python::bound_run_prerouted);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(bound_route, blockmoe::python::bound_route);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(fused_moe, blockmoe::python::fused_moe);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(fused_moe_prerouted, blockmoe::python::fused_moe_prerouted);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(forget_plans, blockmoe::python::forget_plans);
