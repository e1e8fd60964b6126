// validate.cpp: the tensors of bind() and run(). Each has one row that says what it must be.
#include "api/validate.hpp"

#include <cmath>

#include "api/refusal.hpp"
#include "api/return_if_error.hpp"

namespace blockmoe::api {
namespace {

constexpr std::int64_t kBlock = contract::kScaleBlock;
constexpr std::int64_t kVector = 16;  // bytes that kernels read and write at once, where an alignment is asked for
constexpr std::array<DType, 2> kE4m3 = {DType::float8_e4m3, DType::float8_e4m3};
constexpr std::array<DType, 2> kF32 = {DType::float32, DType::float32};
constexpr std::array<DType, 2> kBf16 = {DType::bfloat16, DType::bfloat16};
constexpr std::array<DType, 2> kF32OrBf16 = {DType::float32, DType::bfloat16};

Status check_tensor(const Tensor& tensor, const ExpectedTensor& expected, Device device) {
  BLOCKMOE_RETURN_IF_ERROR(check_form(tensor, expected, device));
  return check_address(tensor, expected);
}

contract::FloatType float_type(DType dtype) {
  return dtype == DType::bfloat16 ? contract::FloatType::bf16 : contract::FloatType::f32;
}

template <typename T>
T* address_of(const Tensor& tensor) {
  return static_cast<T*>(tensor.data);
}

// ---- bind

Status check_bias(const Tensor& bias, const contract::Geometry& g, Device device) {
  if (is_absent(bias)) return {};
  const std::int64_t natural = bytes_of(bias.dtype);
  return check_tensor(bias,
                      {.name = "routing_bias",
                       .axes = "[E]",
                       .rank = 1,
                       .shape = {g.experts},
                       .dtypes = kF32OrBf16,
                       .alignment = natural},
                      device);
}

Status check_matrix(const Tensor& tensor, const char* name, const char* axes, std::array<std::int64_t, 3> shape,
                    Device device) {
  return check_tensor(
      tensor, {.name = name, .axes = axes, .rank = 3, .shape = shape, .dtypes = kE4m3, .alignment = kVector}, device);
}

// One scale per 128x128 block of a checked matrix.
Status check_matrix_scale(const Tensor& scale, const char* name, const char* axes, const Tensor& matrix,
                          const char* matrix_name, Device device) {
  return check_tensor(scale,
                      {.name = name,
                       .axes = axes,
                       .rank = 3,
                       .shape = {matrix.dim(0), matrix.dim(1) / kBlock, matrix.dim(2) / kBlock},
                       .dtypes = kF32,
                       .alignment = sizeof(float),
                       .source_name = matrix_name,
                       .source = &matrix,
                       .source_detail = ", blocks of 128"},
                      device);
}

Status check_factor(float factor) {
  if (std::isfinite(factor)) return {};
  return refuse("routed_scaling_factor", std::isnan(factor) ? "NaN" : "infinite", "a finite number");
}

// ---- run

struct CallTensors {
  ExpectedTensor hidden_states;
  ExpectedTensor routing_logits;
  ExpectedTensor hidden_states_scale;
  ExpectedTensor output;
};

// T is that of hidden_states.
CallTensors expected_of_call(const Activations& activations, const contract::Geometry& g) {
  const Tensor& hidden = activations.hidden_states;
  const std::int64_t tokens = hidden.rank == 2 ? hidden.dim(0) : kUnknownTokens;
  return {.hidden_states = {.name = "hidden_states",
                            .axes = "[T, H]",
                            .rank = 2,
                            .shape = {tokens, g.hidden},
                            .dtypes = kE4m3,
                            .alignment = kVector,
                            .pitch_multiple = kVector},
          .routing_logits = {.name = "routing_logits",
                             .axes = "[T, E]",
                             .rank = 2,
                             .shape = {tokens, g.experts},
                             .dtypes = kF32OrBf16,
                             .alignment = bytes_of(activations.routing_logits.dtype),
                             .pitch_multiple = 1,
                             .source_name = "hidden_states",
                             .source = &hidden,
                             .source_detail = ", a logit for each expert of the plan"},
          .hidden_states_scale = {.name = "hidden_states_scale",
                                  .axes = "[H/128, T]",
                                  .rank = 2,
                                  .shape = {g.hidden_blocks(), tokens},
                                  .dtypes = kF32,
                                  .alignment = sizeof(float),
                                  .pitch_multiple = 1,
                                  .source_name = "hidden_states",
                                  .source = &hidden,
                                  .source_detail = ", blocks of 128"},
          .output = {.name = "output",
                     .axes = "[T, H]",
                     .rank = 2,
                     .shape = {tokens, g.hidden},
                     .dtypes = kBf16,
                     .alignment = kVector,
                     .pitch_multiple = kVector / 2,
                     .source_name = "hidden_states",
                     .source = &hidden}};
}

Status check_tokens(const Tensor& hidden, std::int64_t largest) {
  if (hidden.rank != 2 || (hidden.dim(0) >= 0 && hidden.dim(0) <= largest)) return {};
  return refuse("hidden_states", join("T = ", hidden.dim(0)), join("0 to ", largest), "max_tokens of the plan");
}

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

Status check_alone(const ByteRange& written, const ByteRange& other) {
  if (!written.overlaps(other)) return {};
  return refuse(written.name, join("overlaps ", other.name), "memory of its own");
}

// What a call writes overlaps nothing else that it touches.
Status check_overlaps(const Activations& activations, const Tensor& output, const Workspace& workspace,
                      const WorkspaceNeed& need, const CheckedWeights& bound) {
  const auto start = reinterpret_cast<std::uintptr_t>(workspace.data);
  const ByteRange scratch = {"workspace", start, start + need.bytes};
  const ByteRange result = range_of("output", output);
  const std::array<ByteRange, 3> inputs = {range_of("routing_logits", activations.routing_logits),
                                           range_of("hidden_states", activations.hidden_states),
                                           range_of("hidden_states_scale", activations.hidden_states_scale)};
  BLOCKMOE_RETURN_IF_ERROR(check_alone(scratch, result));
  for (const ByteRange& written : {result, scratch}) {
    for (const ByteRange& input : inputs) BLOCKMOE_RETURN_IF_ERROR(check_alone(written, input));
    for (const ByteRange& input : bound.ranges) BLOCKMOE_RETURN_IF_ERROR(check_alone(written, input));
  }
  return {};
}

contract::Activations contract_of(const Activations& activations, const Tensor& output) {
  return {.tokens = activations.hidden_states.dim(0),
          .routing_logits = activations.routing_logits.data,
          .routing_logits_type = float_type(activations.routing_logits.dtype),
          .routing_logits_pitch = pitch_of(activations.routing_logits),
          .hidden = address_of<const std::uint8_t>(activations.hidden_states),
          .hidden_pitch = pitch_of(activations.hidden_states),
          .hidden_scale = address_of<const float>(activations.hidden_states_scale),
          .hidden_scale_pitch = pitch_of(activations.hidden_states_scale),
          .output = address_of<std::uint16_t>(output),
          .output_pitch = pitch_of(output)};
}

}  // namespace

Result<CheckedWeights> validate_weights(const Weights& weights, const PlanRequest& plan) {
  Weights given;
  BLOCKMOE_RETURN_IF_ERROR(read_struct("weights", weights, &given));

  const contract::Geometry& g = plan.geometry;
  const Device device = plan.device.device;
  BLOCKMOE_RETURN_IF_ERROR(check_bias(given.routing_bias, g, device));
  BLOCKMOE_RETURN_IF_ERROR(check_matrix(given.gemm1_weights, "gemm1_weights", "[L, 2I, H]",
                                        {g.local_experts, 2 * g.intermediate, g.hidden}, device));
  BLOCKMOE_RETURN_IF_ERROR(check_matrix_scale(given.gemm1_weights_scale, "gemm1_weights_scale", "[L, 2I/128, H/128]",
                                              given.gemm1_weights, "gemm1_weights", device));
  BLOCKMOE_RETURN_IF_ERROR(check_matrix(given.gemm2_weights, "gemm2_weights", "[L, H, I]",
                                        {g.local_experts, g.hidden, g.intermediate}, device));
  BLOCKMOE_RETURN_IF_ERROR(check_matrix_scale(given.gemm2_weights_scale, "gemm2_weights_scale", "[L, H/128, I/128]",
                                              given.gemm2_weights, "gemm2_weights", device));
  BLOCKMOE_RETURN_IF_ERROR(check_factor(given.routed_scaling_factor));

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

  const Device device = plan.device.device;
  const CallTensors expected = expected_of_call(given, plan.geometry);
  BLOCKMOE_RETURN_IF_ERROR(check_tokens(given.hidden_states, plan.max_tokens));
  BLOCKMOE_RETURN_IF_ERROR(check_form(given.hidden_states, expected.hidden_states, device));
  BLOCKMOE_RETURN_IF_ERROR(check_form(given.routing_logits, expected.routing_logits, device));
  BLOCKMOE_RETURN_IF_ERROR(check_form(given.hidden_states_scale, expected.hidden_states_scale, device));
  BLOCKMOE_RETURN_IF_ERROR(check_form(output, expected.output, device));

  *call = contract_of(given, output);
  if (call->tokens == 0) return {};
  BLOCKMOE_RETURN_IF_ERROR(check_address(given.hidden_states, expected.hidden_states));
  BLOCKMOE_RETURN_IF_ERROR(check_address(given.routing_logits, expected.routing_logits));
  BLOCKMOE_RETURN_IF_ERROR(check_address(given.hidden_states_scale, expected.hidden_states_scale));
  BLOCKMOE_RETURN_IF_ERROR(check_address(output, expected.output));
  BLOCKMOE_RETURN_IF_ERROR(check_workspace(workspace, need));
  return check_overlaps(given, output, workspace, need, bound);
}

}  // namespace blockmoe::api
