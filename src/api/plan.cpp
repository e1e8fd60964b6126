// plan.cpp: Plan and BoundPlan: validate, choose, and hand over to the backend.
#include <utility>

#include "api/backends.hpp"
#include "api/guard.hpp"
#include "api/refusal.hpp"
#include "api/return_if_error.hpp"
#include "api/validate.hpp"
#include "blockmoe/moe.hpp"

namespace blockmoe {

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
    Result<api::BackendPlan> decided = entry.value().plan(request.value());
    BLOCKMOE_RETURN_IF_ERROR(decided.status());
    decided.value().explain += api::passed_over(request.value(), api::backends(), entry.value());
    return Plan(
        std::make_shared<const State>(State{std::move(request).value(), entry.value(), std::move(decided).value()}));
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

}  // namespace blockmoe
