// arguments.h: the kernel that turns pack's counts into what the products are launched with. Host.
#pragma once

#include <cstdint>

#include <cuda_runtime_api.h>

#include "blackwell/products.h"
#include "blackwell/workspace.h"
#include "operator.h"
#include "plan/blackwell_policy.h"
#include "stages/layout.h"

namespace blockmoe::kernels::blackwell {

// chunk, expert_begin -> row_begin, mma_begin, tables. `products` say where rows, weights and outputs lie, how wide they are, and the
// tiles; of the workspace, pointers alone are read here.
struct ArgumentCall {
  const stages::Chunk* chunk = nullptr;
  const std::int32_t* expert_begin = nullptr;  // [L + 1] of the chunk
  plan::ImplementationRule rule;
  const ProductCall* products = nullptr;  // [2]
  Workspace workspace;
};

Error launch_arguments(const ArgumentCall& call, cudaStream_t stream);
Error prepare_arguments();

}  // namespace blockmoe::kernels::blackwell
