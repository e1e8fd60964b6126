// validate_plan.cpp: the numbers that a plan is made from.
#include <algorithm>
#include <limits>
#include <string_view>

#include "api/refusal.hpp"
#include "api/return_if_error.hpp"
#include "api/validate.hpp"

namespace blockmoe::api {
namespace {

constexpr std::int32_t kLargestInt = std::numeric_limits<std::int32_t>::max();

Status check_range(std::string_view argument, std::int64_t value, std::int64_t least, std::int64_t most,
                   std::string_view because = {}) {
  if (value >= least && value <= most) return {};
  if (most == kLargestInt) return refuse(argument, join(value), join(least, " or more"), because);
  return refuse(argument, join(value), join(least, " to ", most), because);
}

Status check_width(std::string_view argument, std::int64_t value) {
  if (value >= contract::kScaleBlock && value <= contract::kMaxWidth && value % contract::kScaleBlock == 0) return {};
  return refuse(
      argument, join(value),
      join("a multiple of ", contract::kScaleBlock, " from ", contract::kScaleBlock, " to ", contract::kMaxWidth));
}

Status check_groups(const contract::Geometry& g) {
  BLOCKMOE_RETURN_IF_ERROR(check_range("geometry.n_group", g.n_group, 1, g.experts));
  if (g.experts % g.n_group != 0) {
    return refuse("geometry.n_group", join(g.n_group), join("a divisor of ", g.experts), "geometry.experts");
  }
  BLOCKMOE_RETURN_IF_ERROR(check_range("geometry.topk_group", g.topk_group, 1, g.n_group, "geometry.n_group"));
  const std::int32_t least = (g.top_k + g.experts_per_group() - 1) / g.experts_per_group();
  if (g.topk_group >= least) return {};
  return refuse("geometry.topk_group", join(g.topk_group), join(least, " or more"),
                join("geometry.top_k is ", g.top_k, ", groups have ", g.experts_per_group(), " experts"));
}

Status check_geometry(const contract::Geometry& g) {
  BLOCKMOE_RETURN_IF_ERROR(check_range("geometry.experts", g.experts, 1, contract::kMaxExperts));
  BLOCKMOE_RETURN_IF_ERROR(check_width("geometry.hidden", g.hidden));
  BLOCKMOE_RETURN_IF_ERROR(check_width("geometry.intermediate", g.intermediate));
  BLOCKMOE_RETURN_IF_ERROR(check_range("geometry.local_experts", g.local_experts, 1, g.experts, "geometry.experts"));
  BLOCKMOE_RETURN_IF_ERROR(check_range("geometry.top_k", g.top_k, 1, std::min(contract::kMaxTopK, g.experts)));
  return check_groups(g);
}

Status check_device(const DeviceInfo& info) {
  if (info.device.type != DeviceType::cpu && info.device.type != DeviceType::cuda) {
    return refuse("device.type", join(static_cast<std::int32_t>(info.device.type)), "cpu (0) or cuda (1)");
  }
  const bool cuda = info.device.type == DeviceType::cuda;
  BLOCKMOE_RETURN_IF_ERROR(check_range("device.index", info.device.index, 0, cuda ? kLargestInt : 0));
  BLOCKMOE_RETURN_IF_ERROR(check_range("device.sm_count", info.sm_count, 1, kLargestInt));
  if (!cuda) return {};
  BLOCKMOE_RETURN_IF_ERROR(
      check_range("device.compute_capability", info.compute_capability, 10, 999, "10 * major + minor"));
  return check_range("device.shared_memory_per_block", info.shared_memory_per_block, 1, kLargestInt);
}

Status check_pruning(const Pruning& pruning, const contract::Geometry& g) {
  BLOCKMOE_RETURN_IF_ERROR(
      check_range("options.pruning.max_local_picks", pruning.max_local_picks, 0, g.top_k, "geometry.top_k"));
  const float share = pruning.min_weight_share;
  if (share >= 0.0F && share < 1.0F) return {};
  return refuse("options.pruning.min_weight_share", text_of(share), "at least 0 and below 1");
}

Status check_options(const Options& options, const contract::Geometry& g) {
  const auto backend = static_cast<std::int32_t>(options.backend);
  BLOCKMOE_RETURN_IF_ERROR(check_range("options.backend", backend, 0, static_cast<std::int32_t>(Backend::blackwell)));
  BLOCKMOE_RETURN_IF_ERROR(check_range("options.max_sms", options.max_sms, 0, kLargestInt));
  BLOCKMOE_RETURN_IF_ERROR(check_range("options.max_threads", options.max_threads, 0, kLargestInt));
  for (const std::uint8_t byte : options.reserved) {
    if (byte != 0) return refuse("options.reserved", join(byte), "0 in every byte");
  }
  const auto policy = static_cast<std::int32_t>(options.policy);
  BLOCKMOE_RETURN_IF_ERROR(check_range("options.policy", policy, 0, static_cast<std::int32_t>(Policy::trtllm)));
  BLOCKMOE_RETURN_IF_ERROR(check_range("options.no_trtllm_gemm1", options.no_trtllm_gemm1, 0, 1));
  BLOCKMOE_RETURN_IF_ERROR(check_range("options.no_trtllm_gemm2", options.no_trtllm_gemm2, 0, 1));
  BLOCKMOE_RETURN_IF_ERROR(check_range("options.mma_gemm2_m_threshold", options.mma_gemm2_m_threshold, 0, kLargestInt));
  BLOCKMOE_RETURN_IF_ERROR(
      check_range("options.trtllm_gemm2_m_threshold", options.trtllm_gemm2_m_threshold, 0, kLargestInt));
  const auto type = static_cast<std::int32_t>(options.intermediate_type);
  BLOCKMOE_RETURN_IF_ERROR(
      check_range("options.intermediate_type", type, 0, static_cast<std::int32_t>(IntermediateType::e4m3x2)));
  return check_pruning(options.pruning, g);
}

contract::Geometry contract_of(const Geometry& g) {
  return {.hidden = g.hidden,
          .intermediate = g.intermediate,
          .experts = g.experts,
          .local_experts = g.local_experts,
          .top_k = g.top_k,
          .n_group = g.n_group,
          .topk_group = g.topk_group};
}

}  // namespace

Result<PlanRequest> validate_plan(const Geometry& geometry, std::int64_t max_tokens, const DeviceInfo& device,
                                  const Options& options) {
  PlanRequest request;
  Geometry sizes;
  BLOCKMOE_RETURN_IF_ERROR(read_struct("geometry", geometry, &sizes));
  BLOCKMOE_RETURN_IF_ERROR(read_struct("device", device, &request.device));
  BLOCKMOE_RETURN_IF_ERROR(read_struct("options", options, &request.options));

  request.device.name[sizeof request.device.name - 1] = '\0';
  request.geometry = contract_of(sizes);
  request.max_tokens = max_tokens;
  BLOCKMOE_RETURN_IF_ERROR(check_geometry(request.geometry));
  BLOCKMOE_RETURN_IF_ERROR(check_range("max_tokens", max_tokens, 0, contract::kMaxTokens));
  BLOCKMOE_RETURN_IF_ERROR(check_device(request.device));
  BLOCKMOE_RETURN_IF_ERROR(check_options(request.options, request.geometry));
  return request;
}

}  // namespace blockmoe::api
