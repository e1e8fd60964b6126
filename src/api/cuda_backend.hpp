// cuda_backend.hpp: the rows of the GPU backends: kernels/operator.h as the library calls it. Only in builds with CUDA.
#pragma once

#include "api/backend.hpp"

namespace blockmoe::api {

BackendEntry portable_entry();
BackendEntry hopper_entry();

}  // namespace blockmoe::api
