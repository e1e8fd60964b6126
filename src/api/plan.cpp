// plan.cpp: Plan and BoundPlan: validate, choose, and hand over to the backend.
#include <utility>

#include "api/backends.hpp"
#include "api/guard.hpp"
#include "api/refusal.hpp"
#include "api/return_if_error.hpp"
#include "api/validate.hpp"
#include "blockmoe/moe.hpp"

namespace blockmoe {
namespace {

// Whoever shows a plan's path or its reasons shows that its results are not the layer's.
void mark_pruned(const api::PlanRequest& request, api::BackendPlan& plan) {
  const Pruning& pruning = request.options.pruning;
  if (!api::pruning_of(request).is_on()) return;
  plan.path += " PRUNED";
  plan.explain += "PRUNED, not exact:";
  if (pruning.min_weight_share != 0.0F) {
    plan.explain += api::join(" local picks with less than ", api::text_of(pruning.min_weight_share),
                              " of the weights of the token's picks are dropped;");
  }
  plan.explain += pruning.max_local_picks == 0
                      ? " any number of local picks stays\n"
                      : api::join(" of local picks stay the ", pruning.max_local_picks, " of largest weight\n");
}

}  // namespace

struct Plan::State {
  api::PlanRequest request;
  api::BackendEntry entry;
  api::BackendPlan decided;
};

struct BoundPlan::State {
  std::shared_ptr<const Plan::State> plan;
  api::CheckedWeights weights;
  api::BackendBinding binding;
};

Plan::Plan(std::shared_ptr<const State> state) : state_(std::move(state)) {}

Result<Plan> Plan::create(const Geometry& geometry, std::int64_t max_tokens, const DeviceInfo& device,
                          const Options& options) {
  return api::guarded([&]() -> Result<Plan> {
    Result<api::PlanRequest> request = api::validate_plan(geometry, max_tokens, device, options);
    BLOCKMOE_RETURN_IF_ERROR(request.status());
    const Result<api::BackendEntry> entry = api::choose_backend(request.value(), api::backends());
    BLOCKMOE_RETURN_IF_ERROR(entry.status());
    Result<api::BackendPlan> planned = entry.value().plan(request.value());
    BLOCKMOE_RETURN_IF_ERROR(planned.status());
    api::BackendPlan decided = std::move(planned).value();
    for (std::string* product : {&decided.gemm1_path, &decided.gemm2_path}) {
      if (product->empty()) *product = decided.path;
    }
    decided.explain += api::passed_over(request.value(), api::backends(), entry.value());
    mark_pruned(request.value(), decided);
    return Plan(std::make_shared<const State>(State{std::move(request).value(), entry.value(), std::move(decided)}));
  });
}

WorkspaceNeed Plan::workspace() const {
  return state_->decided.workspace;
}

Backend Plan::backend() const {
  return state_->entry.backend;
}

const std::string& Plan::path() const {
  return state_->decided.path;
}

const std::string& Plan::gemm1_path() const {
  return state_->decided.gemm1_path;
}

const std::string& Plan::gemm2_path() const {
  return state_->decided.gemm2_path;
}

const std::string& Plan::explain() const {
  return state_->decided.explain;
}

Result<BoundPlan> Plan::bind(const Weights& weights) const {
  return api::guarded([&]() -> Result<BoundPlan> {
    const State& plan = *state_;
    Result<api::CheckedWeights> checked = api::validate_weights(weights, plan.request);
    BLOCKMOE_RETURN_IF_ERROR(checked.status());
    Result<api::BackendBinding> binding = plan.entry.bind(plan.request, plan.decided, checked.value().weights);
    BLOCKMOE_RETURN_IF_ERROR(binding.status());
    return BoundPlan(std::make_shared<const BoundPlan::State>(
        BoundPlan::State{state_, std::move(checked).value(), std::move(binding).value()}));
  });
}

BoundPlan::BoundPlan(std::shared_ptr<const State> state) : state_(std::move(state)) {}

Status BoundPlan::run(const Activations& activations, const Tensor& output, const Workspace& workspace,
                      Stream stream) const {
  return api::guarded([&]() -> Status {
    const Plan::State& plan = *state_->plan;
    contract::Activations call;
    BLOCKMOE_RETURN_IF_ERROR(api::validate_call(activations, output, workspace, plan.request, plan.decided.workspace,
                                                state_->weights, &call));
    if (call.tokens == 0) return {};
    return plan.entry.run(plan.request, plan.decided, state_->binding, state_->weights.weights, call, workspace.data,
                          stream);
  });
}

Status BoundPlan::run_prerouted(const PreroutedActivations& activations, const Tensor& output,
                                const Workspace& workspace, Stream stream) const {
  return api::guarded([&]() -> Status {
    const Plan::State& plan = *state_->plan;
    if (plan.entry.run_prerouted == nullptr) {
      return {StatusCode::unsupported, api::join("topk_ids: the backend ", plan.entry.name, " takes no picks")};
    }
    contract::Activations call;
    contract::Picks picks;
    BLOCKMOE_RETURN_IF_ERROR(api::validate_prerouted_call(activations, output, workspace, plan.request,
                                                          plan.decided.workspace, state_->weights, &call, &picks));
    if (call.tokens == 0) return {};
    return plan.entry.run_prerouted(plan.request, plan.decided, state_->binding, state_->weights.weights, call, picks,
                                    workspace.data, stream);
  });
}

Status BoundPlan::route(const Tensor& routing_logits, const Tensor& topk_ids, const Tensor& topk_weights,
                        Stream stream) const {
  return api::guarded([&]() -> Status {
    const Plan::State& plan = *state_->plan;
    if (plan.entry.route == nullptr) {
      return {StatusCode::unsupported, api::join("topk_ids: the backend ", plan.entry.name, " gives no picks")};
    }
    contract::Activations call;
    contract::RoutedPicks picks;
    BLOCKMOE_RETURN_IF_ERROR(
        api::validate_route(routing_logits, topk_ids, topk_weights, plan.request, state_->weights, &call, &picks));
    if (call.tokens == 0) return {};
    return plan.entry.route(plan.request, plan.decided, state_->binding, state_->weights.weights, call, picks, stream);
  });
}

}  // namespace blockmoe
