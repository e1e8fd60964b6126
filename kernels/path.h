// path.h: what an implementation of the operator on some GPU brings. One row of functions a path, all rows in
// operator.cpp. The shared stages (stages/) stand at every path's disposal.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include <cuda_runtime_api.h>

#include "operator.h"
#include "plan/sizes.h"
#include "stages/slab.h"

namespace blockmoe::kernels {

struct PathEntry {
  Path path;
  const char* name;                                                // "portable"
  bool (*supports)(const Request& request, std::string* why_not);  // this build, this device
  const char* (*plan_name)(const Request& request);                // "portable/f16_mma"
  std::string (*explain)(const Request& request);                  // a line a decision, with its reason
  // Bytes of its own that the path wants in the workspace, beside stages/layout.h's; Slab::path_workspace.
  std::size_t (*workspace_bytes)(const Request& request);
  // Loads the path's kernels on the current device, sets their attributes, derives from the weights what they need.
  Error (*bind)(const Plan& plan, const contract::Weights& weights, std::shared_ptr<const void>* state);
  // All stages of one slab, in order on `stream`.
  Error (*launch_slab)(const stages::Slab& slab, const void* state, cudaStream_t stream);
  plan::RowType many_rows = plan::RowType::bf16;                    // what gemm2 writes where rows are too many for f32
  ProductNames (*product_names)(const Request& request) = nullptr;  // null: plan_name() says it for both
};

}  // namespace blockmoe::kernels
