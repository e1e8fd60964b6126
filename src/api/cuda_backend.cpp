#include "api/cuda_backend.hpp"

#include <array>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "api/cuda_device.hpp"
#include "api/refusal.hpp"
#include "api/return_if_error.hpp"
#include "operator.h"

namespace blockmoe::api {
namespace {

struct Named {
  const char* name;
  const void* pointer;  // null: absent
};

kernels::Policy policy_of(Policy policy) {
  switch (policy) {
    case Policy::automatic:
      return kernels::Policy::automatic;
    case Policy::reference_b200:
      return kernels::Policy::reference_b200;
    case Policy::cutlass:
      return kernels::Policy::cutlass;
    case Policy::trtllm:
      return kernels::Policy::trtllm;
  }
  return kernels::Policy::automatic;  // not reached: validated
}

kernels::BlackwellSwitches switches_of(const Options& options) {
  kernels::BlackwellSwitches switches;
  switches.trtllm_gemm1 = options.no_trtllm_gemm1 == 0;
  switches.trtllm_gemm2 = options.no_trtllm_gemm2 == 0;
  switches.mma_gemm2_rows = options.mma_gemm2_m_threshold;
  if (options.trtllm_gemm2_m_threshold > 0) switches.trtllm_gemm2_most_rows = options.trtllm_gemm2_m_threshold;
  return switches;
}

Status status_of(const kernels::Error& error) {
  if (error.ok()) return {};
  return {StatusCode::device_error, join("kernel ", error.kernel, ": ", kernels::error_text(error))};
}

// A tensor says where it is; this asks the driver, since a kernel that reads elsewhere takes the whole context down.
Status check_memory(std::span<const Named> tensors, std::int32_t index) {
  for (const Named& tensor : tensors) {
    if (tensor.pointer == nullptr) continue;
    const std::string found = not_memory_of(tensor.pointer, index);
    if (!found.empty()) return refuse(tensor.name, found, join("memory of cuda:", index));
  }
  return {};
}

template <kernels::Path kPath>
bool supports(const PlanRequest& request, std::string* why_not) {
  return kernels::supports(kernel_request(request, kPath), why_not);
}

template <kernels::Path kPath>
Result<BackendPlan> plan(const PlanRequest& request) {
  auto made = std::make_shared<const kernels::Plan>(kernels::make_plan(kernel_request(request, kPath)));
  BackendPlan decided;
  decided.path = made->name;
  decided.gemm1_path = made->products.gemm1;
  decided.gemm2_path = made->products.gemm2;
  decided.explain = kernels::explain(*made);
  decided.workspace = {made->workspace_bytes, kernels::kWorkspaceAlignment, WorkspaceInit::anything};
  decided.state = std::move(made);
  return decided;
}

// A plan may have been made for a device that is elsewhere.
Status check_device(const PlanRequest& request) {
  const std::int32_t index = request.device.device.index;
  const Result<DeviceInfo> here = query_cuda_limits(index);
  BLOCKMOE_RETURN_IF_ERROR(here.status());
  const auto text = [](const DeviceInfo& info) {
    return join("compute capability ", info.compute_capability, " with ", info.sm_count, " multiprocessors");
  };
  const DeviceInfo& found = here.value();
  if (found.compute_capability == request.device.compute_capability && found.sm_count >= request.device.sm_count &&
      found.shared_memory_per_block >= request.device.shared_memory_per_block) {
    return {};
  }
  return refuse("device", join("cuda:", index, ", ", text(found)), text(request.device), "the plan was made for that");
}

Result<BackendBinding> bind(const PlanRequest& request, const BackendPlan& decided, const contract::Weights& weights) {
  BLOCKMOE_RETURN_IF_ERROR(check_device(request));
  const std::int32_t index = request.device.device.index;
  const std::array tensors = {Named{"routing_bias", weights.routing_bias}, Named{"gemm1_weights", weights.w13},
                              Named{"gemm1_weights_scale", weights.w13_scale}, Named{"gemm2_weights", weights.w2},
                              Named{"gemm2_weights_scale", weights.w2_scale}};
  BLOCKMOE_RETURN_IF_ERROR(check_memory(tensors, index));
  const CurrentDevice current(index);
  BLOCKMOE_RETURN_IF_ERROR(current.status());
  auto bound = std::make_shared<kernels::Bound>();
  BLOCKMOE_RETURN_IF_ERROR(
      status_of(kernels::bind(*static_cast<const kernels::Plan*>(decided.state.get()), weights, bound.get())));
  return BackendBinding{std::move(bound)};
}

// `launch`, with the device current, where all of `tensors` are in its memory.
template <typename Launch>
Status launch_on(const PlanRequest& request, std::span<const Named> tensors, Launch launch) {
  const std::int32_t index = request.device.device.index;
  BLOCKMOE_RETURN_IF_ERROR(check_memory(tensors, index));
  const CurrentDevice current(index);
  BLOCKMOE_RETURN_IF_ERROR(current.status());
  return status_of(launch());
}

const kernels::Bound& bound_of(const BackendBinding& binding) {
  return *static_cast<const kernels::Bound*>(binding.state.get());
}

Status run(const PlanRequest& request, const BackendPlan&, const BackendBinding& binding, const contract::Weights&,
           const contract::Activations& activations, void* workspace, Stream stream) {
  const std::array tensors = {Named{"routing_logits", activations.routing_logits},
                              Named{"hidden_states", activations.hidden},
                              Named{"hidden_states_scale", activations.hidden_scale},
                              Named{"output", activations.output}, Named{"workspace", workspace}};
  return launch_on(request, tensors,
                   [&] { return kernels::launch(bound_of(binding), activations, workspace, stream); });
}

Status run_prerouted(const PlanRequest& request, const BackendPlan&, const BackendBinding& binding,
                     const contract::Weights&, const contract::Activations& activations, const contract::Picks& picks,
                     void* workspace, Stream stream) {
  const std::array tensors = {
      Named{"topk_ids", picks.experts},           Named{"topk_weights", picks.weights},
      Named{"hidden_states", activations.hidden}, Named{"hidden_states_scale", activations.hidden_scale},
      Named{"output", activations.output},        Named{"workspace", workspace}};
  return launch_on(request, tensors,
                   [&] { return kernels::launch_prerouted(bound_of(binding), activations, picks, workspace, stream); });
}

Status route(const PlanRequest& request, const BackendPlan&, const BackendBinding& binding, const contract::Weights&,
             const contract::Activations& activations, const contract::RoutedPicks& picks, Stream stream) {
  const std::array tensors = {Named{"routing_logits", activations.routing_logits}, Named{"topk_ids", picks.experts},
                              Named{"topk_weights", picks.weights}};
  return launch_on(request, tensors,
                   [&] { return kernels::launch_route(bound_of(binding), activations, picks, stream); });
}

template <kernels::Path kPath>
BackendEntry entry(Backend backend, const char* name) {
  return {backend, name, DeviceType::cuda, supports<kPath>, plan<kPath>, bind, run, run_prerouted, route};
}

}  // namespace

kernels::Request kernel_request(const PlanRequest& request, kernels::Path path) {
  kernels::Request r;
  r.geometry = request.geometry;
  r.max_tokens = request.max_tokens;
  r.device = {request.device.compute_capability, request.device.sm_count, request.device.shared_memory_per_block};
  r.path = path;
  r.max_sms = request.options.max_sms;
  r.batch_invariant = request.options.batch_invariant;
  r.intermediate_type = intermediate_type_of(request);
  r.pruning = pruning_of(request);
  r.policy = policy_of(request.options.policy);
  r.switches = switches_of(request.options);
  return r;
}

BackendEntry portable_entry() {
  return entry<kernels::Path::portable>(Backend::portable, "portable");
}

BackendEntry hopper_entry() {
  return entry<kernels::Path::hopper>(Backend::hopper, "hopper");
}

BackendEntry blackwell_entry() {
  return entry<kernels::Path::blackwell>(Backend::blackwell, "blackwell");
}

}  // namespace blockmoe::api
