// operator.cpp: see operator.h. Chooses a path once, then hands it slab after slab.
#include "operator.h"

#include <array>

#include <cuda_runtime_api.h>

#include "blackwell/blackwell.h"
#include "hopper/hopper.h"
#include "path.h"
#include "plan/sizes.h"
#include "portable/portable.h"
#include "stages/slab.h"
#include "stages/stages.h"

namespace blockmoe::kernels {
namespace {

// Fastest first: `automatic` is the first that runs.
const auto& paths() {
  static const std::array rows = {blackwell::path_entry(), hopper::path_entry(), portable::path_entry()};
  return rows;
}

const PathEntry* path_for(const Request& request, std::string* why_not) {
  const PathEntry* found = nullptr;
  for (const PathEntry& entry : paths()) {
    if (request.path != Path::automatic && request.path != entry.path) continue;
    if (entry.supports(request, why_not)) return &entry;
    found = &entry;
  }
  if (found == nullptr) *why_not = "not in this build";
  return nullptr;
}

const PathEntry& entry_of(Path path) {
  for (const PathEntry& entry : paths()) {
    if (entry.path == path) return entry;
  }
  return paths().front();  // not reached: plans hold a path of this build
}

std::string megabytes(std::size_t bytes) {
  return std::to_string((bytes + 500'000) / 1'000'000) + " MB";
}

// In 16 bits a far smaller value beside a large one is rounded by it, and which stand beside it depends on the tile. Rounding would
// also undo what a second term of the intermediate gives.
plan::RowType many_rows_of(const Request& request, const PathEntry& entry) {
  const bool rounds = !request.batch_invariant && request.intermediate_type == contract::IntermediateType::e4m3;
  return rounds ? entry.many_rows : plan::RowType::f32;
}

plan::Sizes sizes_of(const Request& request, const PathEntry& entry, std::int64_t tokens) {
  return plan::sizes_of(request.geometry, tokens, many_rows_of(request, entry), request.intermediate_type);
}

const char* name_of(plan::RowType type) {
  switch (type) {
    case plan::RowType::f32:
      return "f32";
    case plan::RowType::bf16:
      return "bf16";
    case plan::RowType::f16:
      return "fp16";
  }
  return "";
}

const char* explain_intermediate(const Request& request) {
  if (request.intermediate_type == contract::IntermediateType::e4m3) return "";
  return "intermediate: e4m3x2, a code and one of what it leaves over; gemm2 sums both products, rows in f32 at every "
         "T\n";
}

std::string explain_sizes(const Request& request, const PathEntry& entry, std::size_t bytes) {
  const plan::Sizes s = sizes_of(request, entry, request.max_tokens);
  return "workspace: " + megabytes(bytes) + ": rows of gemm2 in " + name_of(s.row_type) +
         " at T = " + std::to_string(request.max_tokens) + ", " + std::to_string(s.row_capacity) +
         " rows a chunk, at most " + std::to_string(s.max_chunks) + (s.max_chunks == 1 ? " chunk" : " chunks") +
         " for each " + std::to_string(s.slab_capacity) + " tokens\n";
}

std::size_t round_up_to_alignment(std::size_t bytes) {
  return (bytes + kWorkspaceAlignment - 1) / kWorkspaceAlignment * kWorkspaceAlignment;
}

// The call as one slab, to be cut.
stages::Slab whole_call(const Bound& bound, const contract::Activations& activations, void* workspace) {
  const Request& request = bound.plan.request;
  stages::Slab call;
  call.geometry = request.geometry;
  call.weights = bound.weights;
  call.activations = activations;
  call.pruning = request.pruning;
  call.call_tokens = activations.tokens;
  call.sizes = sizes_of(request, entry_of(bound.plan.path), activations.tokens);
  call.workspace = stages::workspace_at(workspace, plan::offsets_of(request.geometry, call.sizes));
  call.path_workspace = static_cast<char*>(workspace) + bound.plan.shared_workspace_bytes;
  call.sms =
      request.max_sms > 0 && request.max_sms < request.device.sm_count ? request.max_sms : request.device.sm_count;
  call.shared_memory = request.device.shared_memory_per_block;
  return call;
}

Error launch_slabs(const Bound& bound, const stages::Slab& call, void* stream) {
  const PathEntry& entry = entry_of(bound.plan.path);
  Error error;
  for (std::int64_t token = 0; token < call.activations.tokens && error.ok(); token += call.sizes.slab_tokens) {
    error = entry.launch_slab(stages::slab_at(call, token), bound.path_state.get(), static_cast<cudaStream_t>(stream));
  }
  return error;
}

}  // namespace

bool supports(const Request& request, std::string* why_not) {
  return path_for(request, why_not) != nullptr;
}

Plan make_plan(const Request& request) {
  std::string ignored;
  const PathEntry* const entry = path_for(request, &ignored);
  Plan plan;
  plan.request = request;
  plan.path = entry->path;
  plan.shared_workspace_bytes = round_up_to_alignment(plan::workspace_bytes(
      request.geometry, request.max_tokens, many_rows_of(request, *entry), request.intermediate_type));
  plan.workspace_bytes = plan.shared_workspace_bytes + entry->workspace_bytes(request);
  plan.name = entry->plan_name(request);
  plan.products = entry->product_names != nullptr ? entry->product_names(request) : ProductNames{plan.name, plan.name};
  return plan;
}

std::string explain(const Plan& plan) {
  const PathEntry& entry = entry_of(plan.path);
  return entry.explain(plan.request) + explain_intermediate(plan.request) +
         explain_sizes(plan.request, entry, plan.workspace_bytes);
}

Error bind(const Plan& plan, const contract::Weights& weights, Bound* bound) {
  bound->plan = plan;
  bound->weights = weights;
  return entry_of(plan.path).bind(plan, weights, &bound->path_state);
}

Error launch(const Bound& bound, const contract::Activations& activations, void* workspace, void* stream) {
  return launch_stages(bound, activations, workspace, stream, kAllStages);
}

Error launch_prerouted(const Bound& bound, const contract::Activations& activations, const contract::Picks& picks,
                       void* workspace, void* stream) {
  stages::Slab call = whole_call(bound, activations, workspace);
  call.given_picks = picks;
  return launch_slabs(bound, call, stream);
}

// As on a rank that has every expert, whose local picks are all picks.
Error launch_route(const Bound& bound, const contract::Activations& activations, const contract::RoutedPicks& picks,
                   void* stream) {
  if (activations.tokens == 0) return {};
  stages::Slab call;
  call.geometry = bound.plan.request.geometry;
  call.geometry.local_experts = call.geometry.experts;
  call.weights = bound.weights;
  call.weights.local_expert_offset = 0;
  call.activations = activations;
  call.sizes.picks = call.geometry.max_local_picks();
  call.workspace.pick_expert = picks.experts;
  call.workspace.pick_weight = picks.weights;
  return stages::launch_route(call, static_cast<cudaStream_t>(stream));
}

Error launch_stages(const Bound& bound, const contract::Activations& activations, void* workspace, void* stream,
                    std::uint32_t stages) {
  stages::Slab call = whole_call(bound, activations, workspace);
  call.wanted = stages;
  return launch_slabs(bound, call, stream);
}

const char* error_text(const Error& error) {
  return cudaGetErrorString(static_cast<cudaError_t>(error.code));
}

}  // namespace blockmoe::kernels
