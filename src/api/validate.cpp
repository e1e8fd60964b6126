// validate.cpp: the tensors of bind() and run(). Each has one row that says what it must be.
#include "api/validate.hpp"

#include <cmath>
#include <span>

#include "api/refusal.hpp"
#include "api/return_if_error.hpp"

namespace blockmoe::api {
namespace {

constexpr std::int64_t kVector = 16;  // bytes that kernels read and write at once, where an alignment is asked for

constexpr std::array<DType, 2> kE4m3 = {DType::float8_e4m3, DType::float8_e4m3};
constexpr std::array<DType, 2> kF32 = {DType::float32, DType::float32};
constexpr std::array<DType, 2> kInt32 = {DType::int32, DType::int32};
constexpr std::array<DType, 2> kF32OrBf16 = {DType::float32, DType::bfloat16};
constexpr std::array<DType, 2> kBf16OrF32 = {DType::bfloat16, DType::float32};

constexpr TensorRule kBias = {.name = "routing_bias", .axes = "[E]", .rank = 1, .dtypes = kF32OrBf16, .optional = true};
constexpr TensorRule kGemm1 = {
    .name = "gemm1_weights", .axes = "[L, 2I, H]", .rank = 3, .dtypes = kE4m3, .alignment = kVector};
constexpr TensorRule kGemm1Scale = {.name = "gemm1_weights_scale",
                                    .axes = "[L, 2I/128, H/128]",
                                    .rank = 3,
                                    .dtypes = kF32,
                                    .source = "gemm1_weights",
                                    .source_detail = ", blocks of 128"};
constexpr TensorRule kGemm2 = {
    .name = "gemm2_weights", .axes = "[L, H, I]", .rank = 3, .dtypes = kE4m3, .alignment = kVector};
constexpr TensorRule kGemm2Scale = {.name = "gemm2_weights_scale",
                                    .axes = "[L, H/128, I/128]",
                                    .rank = 3,
                                    .dtypes = kF32,
                                    .source = "gemm2_weights",
                                    .source_detail = ", blocks of 128"};

constexpr TensorRule kHidden = {.name = "hidden_states",
                                .axes = "[T, H]",
                                .rank = 2,
                                .dtypes = kE4m3,
                                .alignment = kVector,
                                .pitch_multiple = kVector,
                                .most_pitch = contract::kMaxHiddenPitch};
constexpr TensorRule kLogits = {.name = "routing_logits",
                                .axes = "[T, E]",
                                .rank = 2,
                                .dtypes = kF32OrBf16,
                                .pitch_multiple = 1,
                                .source = "hidden_states",
                                .source_detail = ", a logit for each expert of the plan"};
constexpr TensorRule kIds = {.name = "topk_ids",
                             .axes = "[T, K]",
                             .rank = 2,
                             .dtypes = kInt32,
                             .pitch_multiple = 1,
                             .source = "hidden_states",
                             .source_detail = ", as many picks as the plan's top_k"};
constexpr TensorRule kPickWeights = {
    .name = "topk_weights", .axes = "[T, K]", .rank = 2, .dtypes = kF32, .pitch_multiple = 1, .source = "topk_ids"};
constexpr TensorRule kHiddenScale = {.name = "hidden_states_scale",
                                     .axes = "[H/128, T]",
                                     .rank = 2,
                                     .dtypes = kF32,
                                     .pitch_multiple = 1,
                                     .source = "hidden_states",
                                     .source_detail = ", blocks of 128"};
constexpr TensorRule output_rule(std::int64_t element_bytes) {
  return {.name = "output",
          .axes = "[T, H]",
          .rank = 2,
          .dtypes = kBf16OrF32,
          .alignment = kVector,
          .pitch_multiple = kVector / element_bytes,
          .source = "hidden_states"};
}
constexpr TensorRule kOutput = output_rule(2);
constexpr TensorRule kF32Output = output_rule(4);

// Of a call that only routes: the logits tell T, and what is written has no gaps.
constexpr TensorRule kLogitsAlone = {
    .name = "routing_logits", .axes = "[T, E]", .rank = 2, .dtypes = kF32OrBf16, .pitch_multiple = 1};
constexpr TensorRule kRoutedIds = {.name = "topk_ids",
                                   .axes = "[T, K]",
                                   .rank = 2,
                                   .dtypes = kInt32,
                                   .source = "routing_logits",
                                   .source_detail = ", as many picks as the plan's top_k"};
constexpr TensorRule kRoutedWeights = {
    .name = "topk_weights", .axes = "[T, K]", .rank = 2, .dtypes = kF32, .source = "topk_ids"};

const TensorRule& rule_of_output(const Tensor& output) {
  return output.dtype == DType::float32 ? kF32Output : kOutput;
}

contract::FloatType float_type(DType dtype) {
  return dtype == DType::bfloat16 ? contract::FloatType::bf16 : contract::FloatType::f32;
}

template <typename T>
T* address_of(const Tensor& tensor) {
  return static_cast<T*>(tensor.data);
}

// ---- bind

Status check_factor(float factor) {
  if (std::isfinite(factor)) return {};
  return refuse("routed_scaling_factor", std::isnan(factor) ? "NaN" : "infinite", "a finite number");
}

Status check_weights(const Weights& weights, const contract::Geometry& g, Device device) {
  const std::int64_t experts = g.local_experts;
  const std::int64_t up_and_gate = 2 * g.intermediate;
  const std::array<TensorCheck, 5> checks = {{
      {weights.routing_bias, kBias, {g.experts}, device},
      {weights.gemm1_weights, kGemm1, {experts, up_and_gate, g.hidden}, device},
      {weights.gemm1_weights_scale,
       kGemm1Scale,
       {experts, up_and_gate / contract::kScaleBlock, g.hidden_blocks()},
       device,
       &weights.gemm1_weights},
      {weights.gemm2_weights, kGemm2, {experts, g.hidden, g.intermediate}, device},
      {weights.gemm2_weights_scale,
       kGemm2Scale,
       {experts, g.hidden_blocks(), g.intermediate_blocks()},
       device,
       &weights.gemm2_weights},
  }};
  for (const TensorCheck& check : checks) {
    if (check.rule.optional && is_absent(check.tensor)) continue;
    if (const Fault fault = check.form_fault(); fault != Fault::none) return check.refuse(fault);
    if (const Fault fault = check.address_fault(); fault != Fault::none) return check.refuse(fault);
  }
  return check_factor(weights.routed_scaling_factor);
}

// ---- run

Status check_workspace(const Workspace& workspace, const WorkspaceNeed& need) {
  if (need.bytes == 0) return {};
  if (workspace.data == nullptr) return refuse("workspace", "null", join(need.bytes, " bytes"));
  if (workspace.bytes < need.bytes) {
    return refuse("workspace", join(workspace.bytes, " bytes"), join(need.bytes, " or more"));
  }
  if (reinterpret_cast<std::uintptr_t>(workspace.data) % need.alignment == 0) return {};
  return refuse("workspace", join("address ", text_of(workspace.data)),
                join("a multiple of ", need.alignment, " bytes"));
}

Status refuse_overlap(const ByteRange& written, const ByteRange& other) {
  return refuse(written.name, join("overlaps ", other.name), "memory of its own");
}

// What a call writes overlaps nothing else that it touches.
Status check_overlaps(std::span<const TensorCheck> inputs, const Tensor& output, const Workspace& workspace,
                      const WorkspaceNeed& need, const CheckedWeights& bound) {
  const auto start = reinterpret_cast<std::uintptr_t>(workspace.data);
  const ByteRange scratch = {"workspace", start, start + need.bytes};
  const ByteRange result = range_of("output", output);
  if (scratch.overlaps(result)) return refuse_overlap(scratch, result);
  for (const ByteRange& written : {result, scratch}) {
    for (const TensorCheck& check : inputs) {
      const ByteRange input = range_of(check.rule.name, check.tensor);
      if (written.overlaps(input)) return refuse_overlap(written, input);
    }
    for (const ByteRange& input : bound.ranges) {
      if (written.overlaps(input)) return refuse_overlap(written, input);
    }
  }
  return {};
}

// The number of tokens, where the tensor that tells it, [T, ...], has the rank to.
std::int64_t tokens_of(const Tensor& rows) {
  return rows.rank == 2 ? rows.dim(0) : kUnknownTokens;
}

Status check_tokens(const TensorRule& rule, const Tensor& rows, std::int64_t max_tokens) {
  const std::int64_t tokens = tokens_of(rows);
  if (rows.rank != 2 || (tokens >= 0 && tokens <= max_tokens)) return {};
  return refuse(rule.name, join("T = ", tokens), join("0 to ", max_tokens), "max_tokens of the plan");
}

Status check_forms(std::span<const TensorCheck> checks) {
  for (const TensorCheck& check : checks) {
    if (const Fault fault = check.form_fault(); fault != Fault::none) return check.refuse(fault);
  }
  return {};
}

Status check_addresses(std::span<const TensorCheck> checks) {
  for (const TensorCheck& check : checks) {
    if (const Fault fault = check.address_fault(); fault != Fault::none) return check.refuse(fault);
  }
  return {};
}

// All tensors of a call, the output last. With no tokens only forms are looked at, no address and no workspace.
Status check_call(std::span<const TensorCheck> checks, std::int64_t tokens, const Workspace& workspace,
                  const WorkspaceNeed& need, const CheckedWeights& bound) {
  BLOCKMOE_RETURN_IF_ERROR(check_forms(checks));
  if (tokens == 0) return {};
  BLOCKMOE_RETURN_IF_ERROR(check_addresses(checks));
  BLOCKMOE_RETURN_IF_ERROR(check_workspace(workspace, need));
  return check_overlaps(checks.first(checks.size() - 1), checks.back().tensor, workspace, need, bound);
}

contract::Activations contract_of(const Tensor& hidden, const Tensor& hidden_scale, const Tensor& output) {
  return {.tokens = hidden.dim(0),
          .hidden = address_of<const std::uint8_t>(hidden),
          .hidden_pitch = pitch_of(hidden),
          .hidden_scale = address_of<const float>(hidden_scale),
          .hidden_scale_pitch = pitch_of(hidden_scale),
          .output = output.data,
          .output_type = float_type(output.dtype),
          .output_pitch = pitch_of(output)};
}

}  // namespace

Result<CheckedWeights> validate_weights(const Weights& weights, const PlanRequest& plan) {
  Weights given;
  BLOCKMOE_RETURN_IF_ERROR(read_struct("weights", weights, &given));
  BLOCKMOE_RETURN_IF_ERROR(check_weights(given, plan.geometry, plan.device.device));
  return CheckedWeights{
      .weights = {.routing_bias = given.routing_bias.data,
                  .routing_bias_type = float_type(given.routing_bias.dtype),
                  .w13 = address_of<const std::uint8_t>(given.gemm1_weights),
                  .w13_scale = address_of<const float>(given.gemm1_weights_scale),
                  .w2 = address_of<const std::uint8_t>(given.gemm2_weights),
                  .w2_scale = address_of<const float>(given.gemm2_weights_scale),
                  .local_expert_offset = given.local_expert_offset,
                  .routed_scaling_factor = given.routed_scaling_factor,
                  .gate_first = plan.options.gate_first},
      .ranges = {range_of("routing_bias", given.routing_bias), range_of("gemm1_weights", given.gemm1_weights),
                 range_of("gemm1_weights_scale", given.gemm1_weights_scale),
                 range_of("gemm2_weights", given.gemm2_weights),
                 range_of("gemm2_weights_scale", given.gemm2_weights_scale)}};
}

Status validate_call(const Activations& activations, const Tensor& output, const Workspace& workspace,
                     const PlanRequest& plan, const WorkspaceNeed& need, const CheckedWeights& bound,
                     contract::Activations* call) {
  Activations given;
  BLOCKMOE_RETURN_IF_ERROR(read_struct("activations", activations, &given));

  const contract::Geometry& g = plan.geometry;
  const Device device = plan.device.device;
  const Tensor& hidden = given.hidden_states;
  const std::int64_t tokens = tokens_of(hidden);
  BLOCKMOE_RETURN_IF_ERROR(check_tokens(kHidden, hidden, plan.max_tokens));
  const std::array<TensorCheck, 4> checks = {{
      {hidden, kHidden, {tokens, g.hidden}, device},
      {given.routing_logits, kLogits, {tokens, g.experts}, device, &hidden},
      {given.hidden_states_scale, kHiddenScale, {g.hidden_blocks(), tokens}, device, &hidden},
      {output, rule_of_output(output), {tokens, g.hidden}, device, &hidden},
  }};
  BLOCKMOE_RETURN_IF_ERROR(check_call(checks, tokens, workspace, need, bound));
  *call = contract_of(hidden, given.hidden_states_scale, output);
  call->routing_logits = given.routing_logits.data;
  call->routing_logits_type = float_type(given.routing_logits.dtype);
  call->routing_logits_pitch = pitch_of(given.routing_logits);
  return {};
}

Status validate_prerouted_call(const PreroutedActivations& activations, const Tensor& output,
                               const Workspace& workspace, const PlanRequest& plan, const WorkspaceNeed& need,
                               const CheckedWeights& bound, contract::Activations* call, contract::Picks* picks) {
  PreroutedActivations given;
  BLOCKMOE_RETURN_IF_ERROR(read_struct("activations", activations, &given));
  if (given.reserved != 0) return refuse("activations.reserved", join(given.reserved), "0");

  const contract::Geometry& g = plan.geometry;
  const Device device = plan.device.device;
  const Tensor& hidden = given.hidden_states;
  const std::int64_t tokens = tokens_of(hidden);
  BLOCKMOE_RETURN_IF_ERROR(check_tokens(kHidden, hidden, plan.max_tokens));
  const std::array<TensorCheck, 5> checks = {{
      {hidden, kHidden, {tokens, g.hidden}, device},
      {given.topk_ids, kIds, {tokens, g.top_k}, device, &hidden},
      {given.topk_weights, kPickWeights, {tokens, g.top_k}, device, &given.topk_ids},
      {given.hidden_states_scale, kHiddenScale, {g.hidden_blocks(), tokens}, device, &hidden},
      {output, rule_of_output(output), {tokens, g.hidden}, device, &hidden},
  }};
  BLOCKMOE_RETURN_IF_ERROR(check_call(checks, tokens, workspace, need, bound));
  *call = contract_of(hidden, given.hidden_states_scale, output);
  *picks = {.experts = address_of<const std::int32_t>(given.topk_ids),
            .experts_pitch = pitch_of(given.topk_ids),
            .weights = address_of<const float>(given.topk_weights),
            .weights_pitch = pitch_of(given.topk_weights)};
  return {};
}

Status validate_route(const Tensor& routing_logits, const Tensor& topk_ids, const Tensor& topk_weights,
                      const PlanRequest& plan, const CheckedWeights& bound, contract::Activations* call,
                      contract::RoutedPicks* picks) {
  const contract::Geometry& g = plan.geometry;
  const Device device = plan.device.device;
  const std::int64_t tokens = tokens_of(routing_logits);
  BLOCKMOE_RETURN_IF_ERROR(check_tokens(kLogitsAlone, routing_logits, plan.max_tokens));
  const std::array<TensorCheck, 3> checks = {{
      {routing_logits, kLogitsAlone, {tokens, g.experts}, device},
      {topk_ids, kRoutedIds, {tokens, g.top_k}, device, &routing_logits},
      {topk_weights, kRoutedWeights, {tokens, g.top_k}, device, &topk_ids},
  }};
  BLOCKMOE_RETURN_IF_ERROR(check_forms(checks));
  if (tokens > 0) {
    BLOCKMOE_RETURN_IF_ERROR(check_addresses(checks));
    const ByteRange logits = range_of("routing_logits", routing_logits);
    const ByteRange ids = range_of("topk_ids", topk_ids);
    const ByteRange weights = range_of("topk_weights", topk_weights);
    if (ids.overlaps(weights)) return refuse_overlap(ids, weights);
    for (const ByteRange& written : {ids, weights}) {
      for (const ByteRange& input : {logits, bound.ranges.front()}) {
        if (written.overlaps(input)) return refuse_overlap(written, input);
      }
    }
  }
  *call = {.tokens = tokens,
           .routing_logits = routing_logits.data,
           .routing_logits_type = float_type(routing_logits.dtype),
           .routing_logits_pitch = pitch_of(routing_logits)};
  *picks = {.experts = address_of<std::int32_t>(topk_ids), .weights = address_of<float>(topk_weights)};
  return {};
}

}  // namespace blockmoe::api
