// moe.hpp: the operator. Plan once, bind weights once, run many times.
//
//   auto device = blockmoe::query_device({blockmoe::DeviceType::cuda, 0});
//   auto plan   = blockmoe::Plan::create(blockmoe::Geometry(), /*max_tokens=*/4096, device.value());
//   auto bound  = plan.value().bind(weights);
//   ... allocate plan.value().workspace().bytes ...
//   blockmoe::Status status = bound.value().run(activations, output, {memory, bytes}, stream);
//
// Shapes use T tokens of a call, E experts over all ranks, L experts on this rank, H hidden, I intermediate.
//
// Geometry, Options, DeviceInfo, Weights, Activations and PreroutedActivations begin with their own size, set by their initialiser: the
// library reads and writes only what the caller's version of a struct holds, so fields added later (at the end, with 0
// meaning "as before") break nobody. The other structs, Pruning among them, are frozen.
//
// Errors name the argument, what it is and what it must be:
//   gemm1_weights_scale: shape [32, 32, 55], expected [32, 32, 56] (gemm1_weights is [32, 4096, 7168], blocks of 128)
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "blockmoe/export.h"
#include "blockmoe/status.hpp"
#include "blockmoe/tensor.hpp"

namespace blockmoe {

/// Sizes of one layer. The defaults are DeepSeek-V3's on one of eight ranks.
struct Geometry {
  std::uint32_t struct_size = sizeof(Geometry);
  std::int32_t experts = 256;        ///< E, 1..1024
  std::int64_t hidden = 7168;        ///< H, a multiple of 128, at most 65536
  std::int64_t intermediate = 2048;  ///< I, a multiple of 128, at most 65536
  std::int32_t local_experts = 32;   ///< L, 1..E
  std::int32_t top_k = 8;            ///< experts picked a token, 1..32
  std::int32_t n_group = 8;          ///< groups of experts, divides E; 1 = no grouping
  std::int32_t topk_group = 4;       ///< groups kept a token, 1..n_group; topk_group * E / n_group >= top_k
};

/// Which implementation runs. `automatic` picks the fastest one that runs on the device and
/// holds the error gates of docs/numerics.md.
enum class Backend : std::int32_t { automatic = 0, cpu = 1, portable = 2, hopper = 3, blackwell = 4 };

/// Which implementation of its products the blackwell backend runs; the others ignore it. What is missing on the machine or in the
/// build is replaced, and Plan::explain() says so. docs/kernels/blackwell.md has the rules.
enum class Policy : std::int32_t {
  automatic = 0,       ///< ours
  reference_b200 = 1,  ///< the branches of the benchmark's original, by T and by the rows that the routing gives
  cutlass = 2,
  trtllm = 3  ///< TRTLLM's cubins wherever they are there; gemm1's sums then round to bf16 before SwiGLU
};

/// What stands between a layer's two products: each 128 values of silu(gate) * up are requantised, the one rounding that shows in the
/// output's error (docs/numerics.md).
enum class IntermediateType : std::int32_t {
  e4m3 = 0,   ///< one code a value: relative L2 of the output about 0.023 against a layer that does not requantise
  e4m3x2 = 1  ///< a second code for what the first leaves over: below 0.002, the output's own rounding included
};

/// Fewer rows for a result that is no longer the layer's: of a token's picks on this rank, those whose weight is below
/// min_weight_share of the weights of all its picks are dropped, then all but the max_local_picks of largest weight. What
/// stays keeps its weight. The rule to the bit: docs/numerics.md, Pruning. Off by default; a plan that prunes says so in
/// path() and explain().
struct Pruning {
  std::int32_t max_local_picks = 0;  ///< 0..top_k; 0 = any number
  float min_weight_share = 0.0F;     ///< in [0, 1); 0 = any share
};

struct Options {
  std::uint32_t struct_size = sizeof(Options);
  Backend backend = Backend::automatic;
  bool gate_first = false;  ///< gemm1_weights holds gate rows first, then up rows
  /// Multiprocessors that a call's grouped products may use, at most; 0 = all. Routing, packing and combining, a few
  /// microseconds at small T, take what is free. Ignored on the CPU
  std::int32_t max_sms = 0;
  std::int32_t max_threads =
      0;  ///< threads that a call may use on the CPU, at most; 0 = all that the process may run on
  Pruning pruning;
  Policy policy = Policy::automatic;
  // The branches of Policy::reference_b200 alone; rows are a call's local picks.
  std::int32_t no_trtllm_gemm1 = 0;        ///< 1: its gemm1 is never TRTLLM's (MOE_USE_TRTLLM_BMM_GEMM1 = 0)
  std::int32_t no_trtllm_gemm2 = 0;        ///< 1: its gemm2 is never TRTLLM's (MOE_USE_TRTLLM_BMM_GEMM2 = 0)
  std::int32_t mma_gemm2_m_threshold = 0;  ///< gemm2 of more rows multiplies by mma.sync; 0 = never
  /// gemm2 of more rows is not TRTLLM's; 0 = 20000
  std::int32_t trtllm_gemm2_m_threshold = 0;
  /// A token's output row has the same bits in every call on these weights, whatever T, max_tokens and the other tokens are:
  /// nothing is chosen by T that could move a bit. On hopper the error of few rows may then be over the gates; blackwell does
  /// not offer it. What it costs: docs/numerics.md
  bool batch_invariant = false;
  std::uint8_t reserved[3] = {};  ///< 0
  /// Blackwell offers e4m3 alone. What e4m3x2 costs: docs/numerics.md
  IntermediateType intermediate_type = IntermediateType::e4m3;
};

/// What a plan needs to know of a device. Filled by query_device() or describe_device().
struct DeviceInfo {
  std::uint32_t struct_size = sizeof(DeviceInfo);
  Device device;
  std::int32_t compute_capability = 0;       ///< 10 * major + minor of a CUDA device; 0 for the CPU
  std::int32_t sm_count = 0;                 ///< multiprocessors; for the CPU, hardware threads the process may run on
  std::int32_t shared_memory_per_block = 0;  ///< bytes that a block may opt in to; 0 for the CPU
  char name[64] = {};                        ///< for people; ends with a NUL
};

/// What a model's layer brings; constant from call to call. All tensors on the plan's device.
struct Weights {
  std::uint32_t struct_size = sizeof(Weights);
  std::int32_t local_expert_offset = 0;  ///< global number of local expert 0; experts outside [0, E) get no rows
  float routed_scaling_factor = 1.0F;    ///< finite; 2.5 for DeepSeek-V3
  Tensor routing_bias;                   ///< [E] bf16 or f32, or absent (zeros); used for the choice only
  Tensor gemm1_weights;                  ///< [L, 2I, H] e4m3, contiguous, 16-byte aligned; up rows, then gate rows
  Tensor gemm1_weights_scale;            ///< [L, 2I/128, H/128] f32, contiguous
  Tensor gemm2_weights;                  ///< [L, H, I] e4m3, contiguous, 16-byte aligned
  Tensor gemm2_weights_scale;            ///< [L, H/128, I/128] f32, contiguous
};

/// What a step brings. All tensors on the plan's device.
struct Activations {
  std::uint32_t struct_size = sizeof(Activations);
  Tensor routing_logits;       ///< [T, E] f32 or bf16; a row pitch is accepted
  Tensor hidden_states;        ///< [T, H] e4m3, 16-byte aligned; a pitch: a multiple of 16, at most 262144
  Tensor hidden_states_scale;  ///< [H/128, T] f32, T the fast axis; a pitch (padded T) is accepted
};

/// What a step brings when the caller has routed it. K is the geometry's top_k. All tensors on the plan's device.
struct PreroutedActivations {
  std::uint32_t struct_size = sizeof(PreroutedActivations);
  std::uint32_t reserved = 0;
  /// [T, K] int32, global numbers of experts; a row pitch is accepted. A number that is negative, E or more, or not on
  /// this rank is skipped, and so is one that stands earlier in the token's row
  Tensor topk_ids;
  Tensor topk_weights;  ///< [T, K] f32, used as they are: routed_scaling_factor is not applied; a row pitch is accepted
  Tensor hidden_states;        ///< as in Activations
  Tensor hidden_states_scale;  ///< as in Activations
};

/// What the workspace must hold before a plan's first call on it.
enum class WorkspaceInit : std::int32_t {
  anything = 0,     ///< any bytes; no call depends on what an earlier one left
  zeroed_once = 1,  ///< zeros before the first call; each call leaves it fit for the next
};

/// Memory on the plan's device that a call needs, for every T up to the plan's largest.
struct WorkspaceNeed {
  std::size_t bytes = 0;        ///< 0: none, and a null Workspace is accepted
  std::size_t alignment = 256;  ///< of the address, in bytes
  WorkspaceInit init = WorkspaceInit::anything;
};

struct Workspace {
  void* data = nullptr;
  std::size_t bytes = 0;
};

/// A cudaStream_t; null is the default stream. Ignored on the CPU, where run() returns when the output is written.
using Stream = void*;

class BoundPlan;

/// The choice of kernels and sizes for one geometry, device and largest T. Made on the host alone; immutable; free to
/// be used from several threads. Copies are cheap and share the same state.
class BLOCKMOE_API Plan {
 public:
  /// `max_tokens` is the largest T of any call, 0..2^30.
  ///
  /// invalid_argument: a field outside its range. unsupported: no implementation in this build runs this on this
  /// device; the message says why each one can't.
  static Result<Plan> create(const Geometry& geometry, std::int64_t max_tokens, const DeviceInfo& device,
                             const Options& options = Options());

  // Copies only: a Plan is never empty, not even after it was moved from.
  Plan(const Plan&) = default;
  Plan& operator=(const Plan&) = default;
  ~Plan() = default;

  WorkspaceNeed workspace() const;
  /// Never `automatic`.
  Backend backend() const;
  /// The path's name: the backend's, a slash, and what it chose within ("cpu/avx512_bf16").
  const std::string& path() const;
  /// The same of what multiplies in each of the two products: path() without its mark, where nothing more is to be said.
  const std::string& gemm1_path() const;
  const std::string& gemm2_path() const;
  /// What runs and why, a line a decision.
  const std::string& explain() const;

  /// Validates the weights and builds what the kernels need of them. The bound plan refers to the caller's tensors,
  /// which must outlive it; their contents may change between calls. It does not need the Plan to live on.
  Result<BoundPlan> bind(const Weights& weights) const;

 private:
  struct State;
  explicit Plan(std::shared_ptr<const State> state);
  std::shared_ptr<const State> state_;
  friend class BoundPlan;
};

class BLOCKMOE_API BoundPlan {
 public:
  BoundPlan(const BoundPlan&) = default;
  BoundPlan& operator=(const BoundPlan&) = default;
  ~BoundPlan() = default;

  /// One call: validates, then only launches on `stream`. No allocation on the device, no synchronisation, no global
  /// state; safe under graph capture. Calls that share a workspace must be ordered by the caller; calls on different
  /// workspaces are independent, from any thread.
  ///
  /// `output` is [T, H] bf16, 16-byte aligned; a row pitch that is a multiple of 8 is accepted. Or it is f32 with a pitch
  /// that is a multiple of 4: then it gets the rows before their rounding, this rank's part of a sum over ranks, and
  /// rounding them gives the bf16 output's bits. Every element of it is
  /// written when the Status is ok; a token with no local pick gets zeros. When the call is refused
  /// (invalid_argument, unsupported) nothing was launched and nothing is written.
  ///
  /// The bytes from the first to the last element of `output`, and those of the workspace, must not overlap each other
  /// or any input. T = 0 is valid and writes nothing; null data and a null workspace are accepted then.
  Status run(const Activations& activations, const Tensor& output, const Workspace& workspace,
             Stream stream = nullptr) const;

  /// The same without routing: a token's row is the sum of its picks in the order in which they stand, so that the picks
  /// and weights that run() makes give its bits. The weights' routing_bias and routed_scaling_factor are not looked at.
  Status run_prerouted(const PreroutedActivations& activations, const Tensor& output, const Workspace& workspace,
                       Stream stream = nullptr) const;

  /// Routing alone: the picks that run() makes of `routing_logits` [T, E] (as in Activations), those of experts on other
  /// ranks too. `topk_ids` [T, K] int32, contiguous, gets global numbers in pick order, (b descending, expert ascending);
  /// `topk_weights` [T, K] f32, contiguous, their weights, routed_scaling_factor applied. run_prerouted() on them gives
  /// run()'s bits, on every rank. T is at most the plan's max_tokens; of the weights only routing_bias and
  /// routed_scaling_factor matter. It needs no workspace; for the rest it is a call as run() is.
  Status route(const Tensor& routing_logits, const Tensor& topk_ids, const Tensor& topk_weights,
               Stream stream = nullptr) const;

 private:
  struct State;
  explicit BoundPlan(std::shared_ptr<const State> state);
  std::shared_ptr<const State> state_;
  friend class Plan;
};

namespace detail {
BLOCKMOE_API Status query_device(Device device, DeviceInfo* info);
BLOCKMOE_API Status describe_device(const std::string& name, DeviceInfo* info);
}  // namespace detail

/// Asks the machine. Fails with `unsupported` where there is no such device, no driver, or no CUDA in this build.
inline Result<DeviceInfo> query_device(Device device) {
  DeviceInfo info;  // of the caller's version: only as many bytes are filled
  Status status = detail::query_device(device, &info);
  if (!status.ok()) return status;
  return info;
}

/// A device that need not be here, for planning: "sm_80", "sm_90a", "sm_100a", ... with the figures of the usual part
/// of that architecture (a suffix a or f is accepted and means nothing more), and a name that says that it was described; or
/// "cpu", which is this machine's.
inline Result<DeviceInfo> describe_device(const std::string& name) {
  DeviceInfo info;
  Status status = detail::describe_device(name, &info);
  if (!status.ok()) return status;
  return info;
}

}  // namespace blockmoe
