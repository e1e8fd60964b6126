// cuda_backend.hpp: the rows of the GPU backends: kernels/operator.h as the library calls it. Only in builds with CUDA.
#pragma once

#include "api/backend.hpp"
#include "operator.h"

namespace blockmoe::api {

/// What the kernels' door is asked for, on one of its paths.
kernels::Request kernel_request(const PlanRequest& request, kernels::Path path);

BackendEntry portable_entry();
BackendEntry hopper_entry();
BackendEntry blackwell_entry();

}  // namespace blockmoe::api
