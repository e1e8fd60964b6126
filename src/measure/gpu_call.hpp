// gpu_call.hpp: the operator on a GPU as a user's program would call it: inputs, output and workspace in device memory.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "blockmoe/moe.hpp"
#include "blockmoe/status.hpp"
#include "measure/cuda_check.hpp"
#include "measure/device_inputs.hpp"
#include "measure/timing.hpp"
#include "workload/inputs.hpp"

namespace blockmoe::measure {

/// What workspace and output hold before the first call.
enum class Fill {
  poison,   ///< 0xff bytes: NaN to whoever reads a float there
  nothing,  ///< as allocated: a checker of memory then sees who reads what nobody wrote
};

/// One set of inputs bound to one plan.
class GpuCall {
 public:
  /// `device` must be the current CUDA device.
  static Result<GpuCall> create(const workload::Inputs& inputs, const DeviceInfo& device, const Options& options,
                                Fill fill = Fill::poison);
  /// The same where their copy is on the device already.
  static Result<GpuCall> create(const workload::Inputs& inputs, DeviceInputs placed, const DeviceInfo& device,
                                const Options& options, Fill fill = Fill::poison);

  const Plan& plan() const { return plan_; }
  const DeviceInputs& inputs() const { return inputs_; }

  /// What the operator's own layers take: device pointers, output included, and the workspace.
  contract::Activations activations() const;
  void* workspace() const { return workspace_.get(); }

  /// Puts the call on `stream`.
  Status enqueue(void* stream) const;
  /// Output [T, H] bf16 as the last call left it, after waiting for the device.
  Result<std::vector<std::uint16_t>> fetch_output() const;
  Status poison_output() const;

 private:
  GpuCall(const Plan& plan, const BoundPlan& bound, DeviceInputs inputs, DeviceMemory workspace, DeviceMemory output);

  Plan plan_;
  BoundPlan bound_;
  DeviceInputs inputs_;
  DeviceMemory workspace_;
  DeviceMemory output_;
  std::int64_t tokens_ = 0;
  std::int64_t hidden_ = 0;
};

}  // namespace blockmoe::measure
