// operator.h: the one door of kernels/. A library, a binding or a runner includes this file and nothing else from here.
//
//   Plan plan = make_plan(request);        // host alone: which kernels, which sizes, how much workspace
//   Bound bound;  bind(plan, weights, &bound);           // once a set of weights, on the device that will run
//   launch(bound, activations, workspace, stream);       // only launches: no allocation, no wait, safe under capture
//   launch_prerouted(bound, activations, picks, workspace, stream);     // the same where the caller has routed
//   launch_route(bound, activations, picks, stream);     // routing alone, over all ranks' experts
//
// Callers have validated their arguments (geometry within contract/geometry.h's limits, pointers, pitches, alignment);
// nothing here looks at them again. C++17, and no header but the standard library's and the contract's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "contract/call.h"
#include "contract/geometry.h"
#include "contract/intermediate.h"
#include "contract/pruning.h"

namespace blockmoe::kernels {

enum class Path : std::int32_t { automatic, portable, hopper, blackwell };

// Which implementations of the products a path chooses among; of blackwell alone (plan/blackwell_policy.h).
enum class Policy : std::int32_t { automatic, reference_b200, cutlass, trtllm };

// What the branches of Policy::reference_b200 can be set to.
struct BlackwellSwitches {
  bool trtllm_gemm1 = true;
  bool trtllm_gemm2 = true;
  std::int64_t mma_gemm2_rows = 0;               // gemm2 of more rows multiplies by mma.sync; 0 = never
  std::int64_t trtllm_gemm2_most_rows = 20'000;  // gemm2 of more rows is not trtllm's
};

struct Device {
  std::int32_t compute_capability = 0;  // 10 * major + minor
  std::int32_t sm_count = 0;
  std::int32_t shared_memory_per_block = 0;  // bytes a block may opt in to
};

struct Request {
  contract::Geometry geometry;
  std::int64_t max_tokens = 0;  // largest T of any call
  Device device;
  Path path = Path::automatic;
  std::int32_t max_sms = 0;      // multiprocessors a call's products may use; 0 = all
  bool batch_invariant = false;  // a token's bits depend on no other token, and not on T
  contract::IntermediateType intermediate_type = contract::IntermediateType::e4m3;
  contract::Pruning pruning;
  Policy policy = Policy::automatic;
  BlackwellSwitches switches;  // for Policy::reference_b200
};

// What multiplies in each product: string constants, as Plan::name.
struct ProductNames {
  const char* gemm1 = "";
  const char* gemm2 = "";
};

struct Plan {
  Request request;
  Path path = Path::portable;  // never automatic
  const char* name = "";       // "portable/f16_mma": a string constant
  ProductNames products;
  std::size_t workspace_bytes = 0;
  std::size_t shared_workspace_bytes = 0;  // of these the shared stages', which come first
};

inline constexpr std::size_t kWorkspaceAlignment = 256;

// A plan with its weights, and what its path derived from them (tensor maps and the like). Weights are referred to, not
// copied; their contents may change between launches.
struct Bound {
  Plan plan;
  contract::Weights weights;
  std::shared_ptr<const void> path_state;
};

// What the runtime refused, and in which kernel.
struct Error {
  std::int32_t code = 0;         // a cudaError_t; 0 is success
  const char* kernel = nullptr;  // "route", "gemm1", ...: a string constant

  bool ok() const { return code == 0; }
};

// The operator's stages, as bits. A path that fuses stages runs its kernel for the first of them.
enum Stage : std::uint32_t { kRoute = 1, kPack = 2, kGemm1 = 4, kGemm2 = 8, kCombine = 16, kAllStages = 31 };

// Whether this build has the path asked for and the device can run it; `why_not` is written where it can't.
bool supports(const Request& request, std::string* why_not);

// For a request that supports() accepts. Cheap enough for a caller that plans each call: integers only.
Plan make_plan(const Request& request);

// A line a decision, with its reason.
std::string explain(const Plan& plan);

// Call with the plan's device current.
Error bind(const Plan& plan, const contract::Weights& weights, Bound* bound);

// One call on `stream` (a cudaStream_t), with the plan's device current. `workspace` holds plan.workspace_bytes at
// kWorkspaceAlignment; its contents may be anything before and mean nothing after. T = 0 launches nothing.
Error launch(const Bound& bound, const contract::Activations& activations, void* workspace, void* stream);

// The same for a call that its caller has routed; `activations` then needs no logits.
Error launch_prerouted(const Bound& bound, const contract::Activations& activations, const contract::Picks& picks,
                       void* workspace, void* stream);

// The picks of launch()'s routing over all experts of the layer, in their order and with their weights: what
// launch_prerouted() takes on any rank. Of `activations` only `tokens` and the logits are looked at.
Error launch_route(const Bound& bound, const contract::Activations& activations, const contract::RoutedPicks& picks,
                   void* stream);

// launch() for some stages alone, to time them: what the others leave in `workspace` must be there from a whole call on
// the same arguments.
Error launch_stages(const Bound& bound, const contract::Activations& activations, void* workspace, void* stream,
                    std::uint32_t stages);

// The text of an Error's code, from the runtime.
const char* error_text(const Error& error);

}  // namespace blockmoe::kernels
