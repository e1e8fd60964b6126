// device_inputs.hpp: the tensors of one call copied to a GPU, at the layout they have on the host.
#pragma once

#include <vector>

#include "blockmoe/moe.hpp"
#include "blockmoe/status.hpp"
#include "contract/call.h"
#include "measure/cuda_check.hpp"
#include "workload/inputs.hpp"

namespace blockmoe::measure {

/// Owns the device memory that the pointers lead to.
struct DeviceInputs {
  contract::Weights weights;          ///< device pointers
  contract::Activations activations;  ///< device pointers; no output
  blockmoe::Weights public_weights;   ///< the same as arguments of the public API
  blockmoe::Activations public_activations;
  std::vector<DeviceMemory> memory;
};

/// Copies to CUDA device `index`, which must be current; waits until everything is there.
Result<DeviceInputs> copy_to_device(const workload::Inputs& inputs, int index);

}  // namespace blockmoe::measure
