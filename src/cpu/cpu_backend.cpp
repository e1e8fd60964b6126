// cpu_backend.cpp: what a plan decides, and the backend's row of functions.
#include "cpu/cpu_backend.hpp"

#include <algorithm>
#include <memory>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>

#include "cpu/call.hpp"
#include "cpu/route.hpp"
#include "cpu/run.hpp"

namespace blockmoe::cpu {
namespace {

struct PlanState {
  InstructionSet set;
  Sizes sizes;
  mutable std::once_flag pool_started;  // by the first bind: a plan that is only asked about has no threads
  mutable std::unique_ptr<ThreadPool> pool;
};

const PlanState& state_of(const api::BackendPlan& plan) {
  return *static_cast<const PlanState*>(plan.state.get());
}

int choose_threads(const api::PlanRequest& request) {
  int threads = request.device.sm_count;
  if (threads <= 0) threads = static_cast<int>(std::thread::hardware_concurrency());
  if (request.options.max_threads > 0) threads = std::min(threads, request.options.max_threads);
  return std::max(threads, 1);
}

std::string explain(InstructionSet set, const api::PlanRequest& request, const Sizes& sizes) {
  std::string text = "products: " + std::string(name_of(set));
  text += set == best_instruction_set() ? ", the fastest that this machine runs\n" : ", as asked\n";
  text += "threads: " + std::to_string(sizes.threads);
  text += request.options.max_threads > 0
              ? ", of at most " + std::to_string(request.options.max_threads) + " asked for\n"
              : ", all that the process may run on\n";
  if (sizes.terms > 1) text += "intermediate: e4m3x2, a code and one of what it leaves over\n";
  text += "chunks: tokens with at most " + std::to_string(sizes.max_rows) + " rows, of blocks of " +
          std::to_string(sizes.block_tokens) + " tokens routed together\n";
  return text;
}

bool supports(const api::PlanRequest&, std::string* why_not) {
  if (is_available(best_instruction_set())) return true;
  *why_not = "this processor lacks AVX2 or FMA";
  return false;
}

Result<api::BackendPlan> plan(const api::PlanRequest& request) {
  return plan_for(request, best_instruction_set());
}

Result<api::BackendBinding> bind(const api::PlanRequest&, const api::BackendPlan& plan, const contract::Weights&) {
  const PlanState& state = state_of(plan);
  try {
    std::call_once(state.pool_started, [&] { state.pool = std::make_unique<ThreadPool>(state.sizes.threads); });
  } catch (const std::system_error& error) {
    return Status(StatusCode::out_of_memory, "max_threads: the system gives no " + std::to_string(state.sizes.threads) +
                                                 " threads (" + error.what() + ")");
  }
  return api::BackendBinding{plan.state};
}

void run_with(const api::PlanRequest& request, const api::BackendPlan& plan, const contract::Weights& weights,
              const contract::Activations& activations, const contract::Picks* picks, void* workspace) {
  const PlanState& state = state_of(plan);
  const Products& products = products_of(state.set);
  const Call call{.geometry = request.geometry,
                  .weights = weights,
                  .activations = activations,
                  .products = products,
                  .pool = *state.pool,
                  .sizes = state.sizes,
                  .buffers = place_buffers(request.geometry, state.sizes, products, workspace),
                  .given_picks = picks,
                  .pruning = api::pruning_of(request)};
  cpu::run(call);
}

Status run(const api::PlanRequest& request, const api::BackendPlan& plan, const api::BackendBinding&,
           const contract::Weights& weights, const contract::Activations& activations, void* workspace, Stream) {
  run_with(request, plan, weights, activations, nullptr, workspace);
  return {};
}

Status run_prerouted(const api::PlanRequest& request, const api::BackendPlan& plan, const api::BackendBinding&,
                     const contract::Weights& weights, const contract::Activations& activations,
                     const contract::Picks& picks, void* workspace, Stream) {
  run_with(request, plan, weights, activations, &picks, workspace);
  return {};
}

Status route(const api::PlanRequest& request, const api::BackendPlan& plan, const api::BackendBinding&,
             const contract::Weights& weights, const contract::Activations& activations,
             const contract::RoutedPicks& picks, Stream) {
  route_alone(request.geometry, weights, activations, picks, *state_of(plan).pool);
  return {};
}

}  // namespace

Result<api::BackendPlan> plan_for(const api::PlanRequest& request, InstructionSet set) {
  const std::string name(name_of(set));
  if (!is_available(set)) return Status(StatusCode::unsupported, "this machine does not run cpu/" + name);
  auto state = std::make_shared<PlanState>();
  state->set = set;
  state->sizes =
      choose_sizes(request.geometry, request.max_tokens, choose_threads(request), api::intermediate_type_of(request));
  api::BackendPlan result;
  result.path = "cpu/" + name;
  result.explain = explain(set, request, state->sizes);
  result.workspace.bytes = workspace_bytes(request.geometry, state->sizes, products_of(set));
  result.state = std::move(state);
  return result;
}

const api::BackendEntry& backend_entry() {
  static const api::BackendEntry entry = {
      .backend = Backend::cpu,
      .name = "cpu",
      .device_type = DeviceType::cpu,
      .supports = supports,
      .plan = plan,
      .bind = bind,
      .run = run,
      .run_prerouted = run_prerouted,
      .route = route,
  };
  return entry;
}

}  // namespace blockmoe::cpu
