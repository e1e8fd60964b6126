// backend.hpp: what the library asks of an implementation. One row of functions a backend, all rows in backends.cpp.
//
// Everything that reaches these functions was validated (validate.cpp); they trust it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "blockmoe/moe.hpp"
#include "contract/call.h"
#include "contract/geometry.h"
#include "contract/intermediate.h"
#include "contract/pruning.h"

namespace blockmoe::api {

struct PlanRequest {
  contract::Geometry geometry;
  std::int64_t max_tokens = 0;
  DeviceInfo device;
  Options options;  // whole: fields that the caller's version lacked have their defaults
};

inline contract::Pruning pruning_of(const PlanRequest& request) {
  const Pruning& pruning = request.options.pruning;
  return {pruning.max_local_picks, pruning.min_weight_share};
}

inline contract::IntermediateType intermediate_type_of(const PlanRequest& request) {
  return request.options.intermediate_type == IntermediateType::e4m3x2 ? contract::IntermediateType::e4m3x2
                                                                       : contract::IntermediateType::e4m3;
}

/// What a backend decided. `state` is the backend's own and is passed back to it.
struct BackendPlan {
  std::string path;     // "cpu/avx512_bf16"
  std::string explain;  // a line a decision, with the reason
  WorkspaceNeed workspace;
  std::shared_ptr<const void> state;
  std::string gemm1_path;  // of each product alone; empty: `path` says it all
  std::string gemm2_path;
};

/// Weights made ready: tensor maps and the like. `state` as above.
struct BackendBinding {
  std::shared_ptr<const void> state;
};

struct BackendEntry {
  Backend backend;
  const char* name;  // "cpu"; also the word on the command line
  DeviceType device_type;
  bool (*supports)(const PlanRequest&, std::string* why_not);  // this device, this build
  Result<BackendPlan> (*plan)(const PlanRequest&);
  Result<BackendBinding> (*bind)(const PlanRequest&, const BackendPlan&, const contract::Weights&);
  Status (*run)(const PlanRequest&, const BackendPlan&, const BackendBinding&, const contract::Weights&,
                const contract::Activations&, void* workspace, Stream stream);
  /// The same with the caller's picks, and no logits. Null: the backend has no such entry.
  Status (*run_prerouted)(const PlanRequest&, const BackendPlan&, const BackendBinding&, const contract::Weights&,
                          const contract::Activations&, const contract::Picks&, void* workspace,
                          Stream stream) = nullptr;
  /// Routing alone, over all ranks' experts. Null: likewise.
  Status (*route)(const PlanRequest&, const BackendPlan&, const BackendBinding&, const contract::Weights&,
                  const contract::Activations&, const contract::RoutedPicks&, Stream stream) = nullptr;
};

}  // namespace blockmoe::api
