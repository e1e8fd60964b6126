// gather.h: the kernel that lays a chunk's activations out in the order of the products' rows. Host.
#pragma once

#include <cstdint>

#include <cuda_runtime_api.h>

#include "blackwell/workspace.h"
#include "operator.h"
#include "stages/slab.h"

namespace blockmoe::kernels::blackwell {

// `row_capacity`: of the rows with their padding.
//
// hidden, hidden_scale, pick_expert, pick_row, expert_begin, row_begin -> workspace.hidden, hidden_scale, pick_row
Error launch_gather(const stages::Slab& slab, std::int32_t chunk, const Workspace& workspace, std::int64_t row_capacity,
                    cudaStream_t stream);
Error prepare_gather();

}  // namespace blockmoe::kernels::blackwell
