// moe.hpp: the operator. Plan once, bind weights once, run many times.
//
//   auto info  = blockmoe::query_device({blockmoe::DeviceType::cuda, 0});
//   auto plan  = blockmoe::Plan::create(blockmoe::Geometry{}, /*max_tokens=*/4096, info.value());
//   auto bound = plan.value().bind(weights);
//   ... allocate plan.value().workspace().bytes ...
//   blockmoe::Status status = bound.value().run(activations, output, {memory, bytes}, stream);
//
// Shapes use T tokens, E experts over all ranks, L experts on this rank, H hidden, I intermediate.
//
// Structs that a caller fills begin with their own size, set by their initialiser: the library reads only what the
// caller's version of a struct holds, so fields added later (always at the end) break nobody.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "blockmoe/status.hpp"
#include "blockmoe/tensor.hpp"

namespace blockmoe {

/// Sizes of one layer. The defaults are DeepSeek-V3's on one of eight ranks.
struct Geometry {
  std::uint32_t struct_size = sizeof(Geometry);
  std::int32_t experts = 256;         ///< E, 1..1024
  std::int64_t hidden = 7168;         ///< H, a multiple of 128, at most 65536
  std::int64_t intermediate = 2048;   ///< I, a multiple of 128, at most 65536
  std::int32_t local_experts = 32;    ///< L, 1..E
  std::int32_t top_k = 8;             ///< experts picked a token, 1..32
  std::int32_t n_group = 8;           ///< groups of experts, divides E; 1 = no grouping
  std::int32_t topk_group = 4;        ///< groups kept a token; topk_group * E / n_group >= top_k
};

/// Which implementation runs. `automatic` picks the fastest one that runs on the device.
enum class Backend : std::int32_t { automatic = 0, cpu = 1, portable = 2, hopper = 3 };

struct Options {
  std::uint32_t struct_size = sizeof(Options);
  Backend backend = Backend::automatic;
  bool gate_first = false;        ///< gemm1_weights holds gate rows first, then up rows
  std::int32_t max_sms = 0;       ///< multiprocessors that a call may use; 0 = all of the device. Ignored on the CPU
  std::int32_t max_threads = 0;   ///< threads that a call may use on the CPU; 0 = all that the process may run on
};

/// What a plan needs to know of a device. Filled by query_device() or describe_device().
struct DeviceInfo {
  std::uint32_t struct_size = sizeof(DeviceInfo);
  Device device;
  std::int32_t compute_capability = 0;   ///< 10 * major + minor of a CUDA device; 0 for the CPU
  std::int32_t sm_count = 0;             ///< multiprocessors; for the CPU, hardware threads that the process may use
  std::int32_t shared_memory_per_block = 0;  ///< bytes a block may opt in to
  char name[64] = {};
};

/// Asks the machine. Fails with `unsupported` where there is no such device, no driver, or no CUDA in this build.
Result<DeviceInfo> query_device(Device device);

/// A device that need not be here, for planning: "cpu", or "sm_80", "sm_90a", "sm_100a", ... with the multiprocessor
/// count of the usual part of that architecture.
Result<DeviceInfo> describe_device(const std::string& name);

/// What a model's layer brings; constant from call to call. All on the plan's device.
struct Weights {
  std::uint32_t struct_size = sizeof(Weights);
  std::int32_t local_expert_offset = 0;   ///< global number of local expert 0; experts outside [0, E) get no rows
  Tensor routing_bias;                    ///< [E] bf16 or f32, or absent (zeros); used for the choice only
  Tensor gemm1_weights;                   ///< [L, 2I, H] e4m3, contiguous, 16-byte aligned; up rows then gate rows
  Tensor gemm1_weights_scale;             ///< [L, 2I/128, H/128] f32, contiguous
  Tensor gemm2_weights;                   ///< [L, H, I] e4m3, contiguous, 16-byte aligned
  Tensor gemm2_weights_scale;             ///< [L, H/128, I/128] f32, contiguous
  float routed_scaling_factor = 1.0F;     ///< 2.5 for DeepSeek-V3
};

/// What a step brings.
struct Activations {
  std::uint32_t struct_size = sizeof(Activations);
  Tensor routing_logits;        ///< [T, E] f32 or bf16; a row pitch is accepted
  Tensor hidden_states;         ///< [T, H] e4m3, 16-byte aligned; a row pitch that is a multiple of 16 is accepted
  Tensor hidden_states_scale;   ///< [H/128, T] f32, T the fast axis; a pitch (padded T) is accepted
};

/// What the workspace must hold before a plan's first call on it.
enum class WorkspaceInit : std::int32_t {
  anything = 0,      ///< any bytes; no call depends on what an earlier one left
  zeroed_once = 1,   ///< zeros before the first call; each call leaves it fit for the next
};

struct WorkspaceNeed {
  std::size_t bytes = 0;
  std::size_t alignment = 256;
  WorkspaceInit init = WorkspaceInit::anything;
};

struct Workspace {
  void* data = nullptr;
  std::size_t bytes = 0;
};

/// A cudaStream_t; null is the default stream. Ignored on the CPU, where run() returns when the output is written.
using Stream = void*;

class BoundPlan;

/// The choice of kernels and sizes for one geometry, device and largest T. Made on the host alone; immutable; free to be
/// used from several threads. Copies are cheap and share the same state.
class Plan {
 public:
  /// `max_tokens` is the largest T of any call, 0..2^30.
  static Result<Plan> create(const Geometry& geometry, std::int64_t max_tokens, const DeviceInfo& device,
                             const Options& options = Options());

  WorkspaceNeed workspace() const;
  Backend backend() const;
  /// The path's name: the backend's, a slash, and what it chose within ("cpu/avx512_bf16").
  std::string path() const;
  /// What runs and why, a line a decision.
  std::string explain() const;

  /// Validates the weights and builds what the kernels need of them. The bound plan refers to the caller's memory, which
  /// must outlive it; its contents may change between calls.
  Result<BoundPlan> bind(const Weights& weights) const;

 private:
  struct State;
  explicit Plan(std::shared_ptr<const State> state);
  std::shared_ptr<const State> state_;
  friend class BoundPlan;
};

class BoundPlan {
 public:
  /// One call: validates, then only launches on `stream`. No allocation on the device, no synchronisation, no global
  /// state; safe under graph capture. Calls that share a workspace must be ordered by the caller; calls on different
  /// workspaces are independent.
  ///
  /// `output` is [T, H] bf16 with an optional row pitch; every element is written when the Status is ok, none otherwise.
  /// A token with no local pick gets zeros. T = 0 is valid and writes nothing.
  Status run(const Activations& activations, const Tensor& output, const Workspace& workspace, Stream stream = nullptr) const;

 private:
  struct State;
  explicit BoundPlan(std::shared_ptr<const State> state);
  std::shared_ptr<const State> state_;
  friend class Plan;
};

}  // namespace blockmoe
