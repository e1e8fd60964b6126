// state.hpp: what a group on NCCL keeps from create() on, and what it asks of CUDA and NCCL.
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "api/backend.hpp"
#include "api/return_if_error.hpp"
#include "api/validate.hpp"
#include "blockmoe/expert_parallel.hpp"
#include "ep/buffers.hpp"
#include "ep/cost_model.hpp"
#include "ep/nccl.hpp"
#include "expert_parallel/records.h"

namespace blockmoe {
namespace ep {

using Clock = std::chrono::steady_clock;

inline constexpr std::int32_t kMostPieces = 8;
inline constexpr std::chrono::microseconds kPoll(200);  // from one look at another rank to the next

Status cuda_status(cudaError_t code, const char* call);
Status kernel_status(const kernels::Error& error);
/// invalid_argument outside of `least` to `most`.
Status check_range(const char* argument, std::int64_t value, std::int64_t least, std::int64_t most);

struct CudaFree {
  void operator()(void* memory) const { cudaFree(memory); }
};
using DeviceMemory = std::unique_ptr<void, CudaFree>;

Result<DeviceMemory> allocate(std::size_t bytes);

/// The group's stream, and what orders it and the caller's.
struct Lanes {
  cudaStream_t comm = nullptr;
  cudaEvent_t packed = nullptr;
  cudaEvent_t returned = nullptr;
  std::array<cudaEvent_t, kMostPieces> arrived{};
  std::array<cudaEvent_t, kMostPieces> done{};

  Lanes() = default;
  Lanes(const Lanes&) = delete;
  Lanes& operator=(const Lanes&) = delete;
  ~Lanes();
  Status make();
};

}  // namespace ep

// Hidden: as a member of an exported class it would be exported too.
struct [[gnu::visibility("hidden")]] EpGroup::State {
  api::PlanRequest layer;  // of one rank's call: max_tokens is its largest T
  EpOptions options;       // whole, with the library's choices for zeros
  const ep::nccl::Functions* nccl = nullptr;
  ep::nccl::Comm comm = nullptr;
  std::int32_t rank = 0;
  std::int32_t ranks = 1;
  std::int32_t local_offset = 0;  // of the operator's calls: ids are this and local numbers
  std::int64_t max_slots = 0;
  std::optional<Plan> plan;         // of all calls of the operator
  std::optional<Plan> beside_plan;  // of those beside which parts travel
  kernels::expert_parallel::RecordLayout layout;
  ep::BufferOffsets offsets;
  WorkspaceNeed need;
  std::string explain;
  ep::DeviceMemory table_memory;
  kernels::expert_parallel::OwnerTable table;  // on the device
  ep::Lanes lanes;
  mutable std::atomic<std::int64_t> calls = 0;
  mutable std::atomic<bool> aborted = false;

  Device device() const { return layer.device.device; }
  std::int32_t device_index() const { return layer.device.device.index; }
  std::size_t plan_bytes() const {  // of the workspace's beginning
    return std::max(plan->workspace().bytes, beside_plan->workspace().bytes);
  }
  bool can_start_early() const { return layer.device.compute_capability >= 90; }

  /// What a call of `most_tokens` runs, never `automatic`.
  EpWay way(std::int64_t most_tokens) const;
  std::int32_t pieces(std::int64_t most_tokens) const;
  ep::EpSizes sizes(std::int64_t most_tokens) const;

  Status nccl_status(ep::nccl::Code code, const char* call) const;
  /// body() puts sends and receives into one group.
  template <typename Body>
  Status in_group(Body&& body) const {
    BLOCKMOE_RETURN_IF_ERROR(nccl_status(nccl->group_start(), "ncclGroupStart"));
    Status inside = body();
    ep::nccl::Code code = nccl->group_end();
    while (code == ep::nccl::kInProgress) {  // a communicator that doesn't block: it is still connecting
      std::this_thread::yield();
      const ep::nccl::Code asked = nccl->comm_get_async_error(comm, &code);
      if (asked != 0) code = asked;
    }
    if (!inside.ok()) return inside;
    return nccl_status(code, "ncclGroupEnd");
  }
  /// That this rank has begun a call.
  void post() const;
  /// Until the stream has passed; not for longer than `until`, nor than the other ranks live.
  Status await_stream(cudaStream_t stream, ep::Clock::time_point until, std::int64_t calls_expected,
                      const char* what) const;

 private:
  void abort() const;
};

struct BoundEpGroup::State {
  std::shared_ptr<const EpGroup::State> group;
  api::CheckedWeights weights;
  std::optional<BoundPlan> bound;
  std::optional<BoundPlan> beside;
};

}  // namespace blockmoe
