// expert_oracle_cuda.hpp: the FP64 oracle's expert products on a GPU, so that every token of every shape can be checked.
//
// The same definition as expert_oracle.hpp, FP64 throughout, with kernels of its own that share nothing with the operator's.
#pragma once

#include <span>

#include "blockmoe/status.hpp"
#include "contract/call.h"
#include "contract/geometry.h"
#include "verify/oracle.hpp"

namespace blockmoe::verify {

/// `rows` ascend by local_expert. `weights` and `activations` hold pointers to the current CUDA device.
Result<ExpertRowProducts> expert_rows_cuda(const contract::Geometry& geometry, const contract::Weights& weights,
                                           const contract::Activations& activations, std::span<const ExpertRow> rows);

}  // namespace blockmoe::verify
