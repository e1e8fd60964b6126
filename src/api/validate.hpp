// validate.hpp: the library's door. What passes it is trusted by everything behind it; what does not is named in a
// Status (refusal.hpp), before anything was launched or written.
//
// The arithmetic behind it can't overflow: every size of a Geometry is at most 2^17 (2I), the largest tensor has 2^43
// elements (L = 1024, 2I, H), T is at most 2^30 and a pitch at most 2^31 elements.
#pragma once

#include <array>
#include <cstdint>

#include "api/backend.hpp"
#include "api/sized_struct.hpp"
#include "api/tensor_check.hpp"
#include "blockmoe/expert_parallel.hpp"
#include "blockmoe/moe.hpp"
#include "contract/call.h"

namespace blockmoe::api {

template <>
inline constexpr std::uint32_t kFirstSize<Geometry> = 40;
template <>
inline constexpr std::uint32_t kFirstSize<Options> = 20;
template <>
inline constexpr std::uint32_t kFirstSize<DeviceInfo> = 88;
template <>
inline constexpr std::uint32_t kFirstSize<Weights> = 456;
template <>
inline constexpr std::uint32_t kFirstSize<Activations> = 272;
template <>
inline constexpr std::uint32_t kFirstSize<PreroutedActivations> = 360;
template <>
inline constexpr std::uint32_t kFirstSize<EpOptions> = 56;

Result<PlanRequest> validate_plan(const Geometry& geometry, std::int64_t max_tokens, const DeviceInfo& device,
                                  const Options& options);

struct CheckedWeights {
  contract::Weights weights;
  std::array<ByteRange, 5> ranges;  // of all its tensors
};

Result<CheckedWeights> validate_weights(const Weights& weights, const PlanRequest& plan);

/// Fills *call. Allocates nothing when it returns ok. With T = 0 only forms are looked at, no address and no workspace.
Status validate_call(const Activations& activations, const Tensor& output, const Workspace& workspace,
                     const PlanRequest& plan, const WorkspaceNeed& need, const CheckedWeights& bound,
                     contract::Activations* call);

/// The same for a call with the caller's picks; *call then has no logits.
Status validate_prerouted_call(const PreroutedActivations& activations, const Tensor& output,
                               const Workspace& workspace, const PlanRequest& plan, const WorkspaceNeed& need,
                               const CheckedWeights& bound, contract::Activations* call, contract::Picks* picks);

/// A call that only routes: *call has tokens and logits.
Status validate_route(const Tensor& routing_logits, const Tensor& topk_ids, const Tensor& topk_weights,
                      const PlanRequest& plan, const CheckedWeights& bound, contract::Activations* call,
                      contract::RoutedPicks* picks);

}  // namespace blockmoe::api
