// device_inputs.hpp: the tensors of one call copied to a GPU, at the layout they have on the host.
#pragma once

#include <memory>
#include <vector>

#include "blockmoe/moe.hpp"
#include "blockmoe/status.hpp"
#include "contract/call.h"
#include "measure/cuda_check.hpp"
#include "workload/inputs.hpp"

namespace blockmoe::measure {

/// Owns the device memory that the pointers lead to; copies share it.
struct DeviceInputs {
  contract::Weights weights;          ///< device pointers
  contract::Activations activations;  ///< device pointers; no output
  blockmoe::Weights public_weights;   ///< the same as arguments of the public API
  blockmoe::Activations public_activations;
  std::vector<std::shared_ptr<void>> memory;
};

/// Copies to CUDA device `index`, which must be current; waits until everything is there.
Result<DeviceInputs> copy_to_device(const workload::Inputs& inputs, int index);

/// The same for inputs whose weights are those of `other`: they stay where they are, and the activations are copied.
Result<DeviceInputs> copy_activations(const workload::Inputs& inputs, const DeviceInputs& other, int index);

}  // namespace blockmoe::measure
