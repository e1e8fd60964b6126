// Every way in which a call can be wrong, one at a time: the code, the message to the letter, nothing reaches the
// backend, nothing is written.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <ostream>
#include <string>
#include <vector>

#include "api/refusal.hpp"
#include "api_call.hpp"
#include "blockmoe/version.h"

namespace blockmoe::test {
namespace {

constexpr auto kHugePitch = std::int64_t{1} << 62;

struct Refusal {
  const char* name;           // of the test
  void (*spoil)(Call& call);  // the one thing that is wrong
  std::string message;        // {output} and {workspace} stand for their addresses
  StatusCode code = StatusCode::invalid_argument;

  friend std::ostream& operator<<(std::ostream& stream, const Refusal& refusal) { return stream << refusal.message; }
};

std::string with_addresses(std::string message, const Call& call) {
  const auto put = [&](const std::string& key, const void* address) {
    const std::size_t at = message.find(key);
    if (at != std::string::npos) message.replace(at, key.size(), api::text_of(address));
  };
  put("{output}", call.output.data);
  put("{workspace}", call.workspace.data);
  return message;
}

class RefusalTest : public testing::TestWithParam<Refusal> {
 protected:
  RefusalTest() {
    reset_fakes();
    GetParam().spoil(call_);
  }

  void expect_refused(const Status& status) const {
    EXPECT_EQ(status.message(), with_addresses(GetParam().message, call_));
    EXPECT_EQ(status.code(), GetParam().code);
    EXPECT_EQ(fakes().runs, 0);
    EXPECT_TRUE(call_.output_is_untouched());
  }

  Call call_;
};

std::string name_of(const testing::TestParamInfo<Refusal>& info) {
  return info.param.name;
}

TEST(ApiRefusal, the_call_that_the_tables_spoil_is_valid) {
  reset_fakes();
  Call call;
  const Status status = call.run();
  EXPECT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(fakes().runs, 1);
  EXPECT_FALSE(call.output_is_untouched());
}

// ---- Plan::create

class ApiPlanRefusal : public RefusalTest {};

TEST_P(ApiPlanRefusal, names_the_argument) {
  expect_refused(call_.plan().status());
  EXPECT_EQ(fakes().plans, 0);
}

const std::vector<Refusal> kPlanRefusals = {
    {"experts_0", [](Call& c) { c.geometry.experts = 0; }, "geometry.experts: 0, expected 1 to 1024"},
    {"experts_1025", [](Call& c) { c.geometry.experts = 1025; }, "geometry.experts: 1025, expected 1 to 1024"},
    {"hidden_0", [](Call& c) { c.geometry.hidden = 0; },
     "geometry.hidden: 0, expected a multiple of 128 from 128 to 65536"},
    {"hidden_negative", [](Call& c) { c.geometry.hidden = -128; },
     "geometry.hidden: -128, expected a multiple of 128 from 128 to 65536"},
    {"hidden_not_of_blocks", [](Call& c) { c.geometry.hidden = 7000; },
     "geometry.hidden: 7000, expected a multiple of 128 from 128 to 65536"},
    {"hidden_65664", [](Call& c) { c.geometry.hidden = 65664; },
     "geometry.hidden: 65664, expected a multiple of 128 from 128 to 65536"},
    {"hidden_largest_int64", [](Call& c) { c.geometry.hidden = std::numeric_limits<std::int64_t>::max() - 127; },
     "geometry.hidden: 9223372036854775680, expected a multiple of 128 from 128 to 65536"},
    {"intermediate_192", [](Call& c) { c.geometry.intermediate = 192; },
     "geometry.intermediate: 192, expected a multiple of 128 from 128 to 65536"},
    {"intermediate_65664", [](Call& c) { c.geometry.intermediate = 65664; },
     "geometry.intermediate: 65664, expected a multiple of 128 from 128 to 65536"},
    {"local_experts_0", [](Call& c) { c.geometry.local_experts = 0; },
     "geometry.local_experts: 0, expected 1 to 256 (geometry.experts)"},
    {"local_experts_257", [](Call& c) { c.geometry.local_experts = 257; },
     "geometry.local_experts: 257, expected 1 to 256 (geometry.experts)"},
    {"top_k_0", [](Call& c) { c.geometry.top_k = 0; }, "geometry.top_k: 0, expected 1 to 32"},
    {"top_k_33", [](Call& c) { c.geometry.top_k = 33; }, "geometry.top_k: 33, expected 1 to 32"},
    {"top_k_above_experts",
     [](Call& c) {
       c.geometry.experts = 4;
       c.geometry.local_experts = 4;
     },
     "geometry.top_k: 8, expected 1 to 4"},
    {"n_group_0", [](Call& c) { c.geometry.n_group = 0; }, "geometry.n_group: 0, expected 1 to 256"},
    {"n_group_not_a_divisor", [](Call& c) { c.geometry.n_group = 7; },
     "geometry.n_group: 7, expected a divisor of 256 (geometry.experts)"},
    {"topk_group_0", [](Call& c) { c.geometry.topk_group = 0; },
     "geometry.topk_group: 0, expected 1 to 8 (geometry.n_group)"},
    {"topk_group_9", [](Call& c) { c.geometry.topk_group = 9; },
     "geometry.topk_group: 9, expected 1 to 8 (geometry.n_group)"},
    {"topk_group_too_few_experts",
     [](Call& c) {
       c.geometry.n_group = 64;
       c.geometry.topk_group = 1;
     },
     "geometry.topk_group: 1, expected 2 or more (geometry.top_k is 8, groups have 4 experts)"},
    {"max_tokens_negative", [](Call& c) { c.max_tokens = -1; }, "max_tokens: -1, expected 0 to 1073741824"},
    {"max_tokens_too_many", [](Call& c) { c.max_tokens = 1073741825; },
     "max_tokens: 1073741825, expected 0 to 1073741824"},
    {"device_type", [](Call& c) { c.device.device.type = DeviceType{2}; },
     "device.type: 2, expected cpu (0) or cuda (1)"},
    {"device_index_of_cpu", [](Call& c) { c.device.device.index = 1; }, "device.index: 1, expected 0 to 0"},
    {"device_index_of_cuda", [](Call& c) { c.device.device = {DeviceType::cuda, -1}; },
     "device.index: -1, expected 0 or more"},
    {"device_sm_count", [](Call& c) { c.device.sm_count = 0; }, "device.sm_count: 0, expected 1 or more"},
    {"device_compute_capability", [](Call& c) { c.device.device.type = DeviceType::cuda; },
     "device.compute_capability: 0, expected 10 to 999 (10 * major + minor)"},
    {"device_shared_memory",
     [](Call& c) {
       c.device.device.type = DeviceType::cuda;
       c.device.compute_capability = 90;
     },
     "device.shared_memory_per_block: 0, expected 1 or more"},
    {"backend_negative", [](Call& c) { c.options.backend = Backend{-1}; }, "options.backend: -1, expected 0 to 4"},
    {"backend_unknown", [](Call& c) { c.options.backend = Backend{5}; }, "options.backend: 5, expected 0 to 4"},
    {"max_sms_negative", [](Call& c) { c.options.max_sms = -1; }, "options.max_sms: -1, expected 0 or more"},
    {"max_threads_negative", [](Call& c) { c.options.max_threads = -1; },
     "options.max_threads: -1, expected 0 or more"},
    {"pruning_picks_negative", [](Call& c) { c.options.pruning.max_local_picks = -1; },
     "options.pruning.max_local_picks: -1, expected 0 to 8 (geometry.top_k)"},
    {"pruning_picks_above_top_k", [](Call& c) { c.options.pruning.max_local_picks = 9; },
     "options.pruning.max_local_picks: 9, expected 0 to 8 (geometry.top_k)"},
    {"pruning_share_negative", [](Call& c) { c.options.pruning.min_weight_share = -0.25F; },
     "options.pruning.min_weight_share: -0.25, expected at least 0 and below 1"},
    {"pruning_share_1", [](Call& c) { c.options.pruning.min_weight_share = 1.0F; },
     "options.pruning.min_weight_share: 1, expected at least 0 and below 1"},
    {"pruning_share_nan", [](Call& c) { c.options.pruning.min_weight_share = std::numeric_limits<float>::quiet_NaN(); },
     "options.pruning.min_weight_share: nan, expected at least 0 and below 1"},
    {"policy_negative", [](Call& c) { c.options.policy = Policy{-1}; }, "options.policy: -1, expected 0 to 3"},
    {"policy_unknown", [](Call& c) { c.options.policy = Policy{4}; }, "options.policy: 4, expected 0 to 3"},
    {"no_trtllm_gemm1", [](Call& c) { c.options.no_trtllm_gemm1 = 2; }, "options.no_trtllm_gemm1: 2, expected 0 to 1"},
    {"no_trtllm_gemm2", [](Call& c) { c.options.no_trtllm_gemm2 = -1; },
     "options.no_trtllm_gemm2: -1, expected 0 to 1"},
    {"mma_gemm2_m_threshold", [](Call& c) { c.options.mma_gemm2_m_threshold = -1; },
     "options.mma_gemm2_m_threshold: -1, expected 0 or more"},
    {"trtllm_gemm2_m_threshold", [](Call& c) { c.options.trtllm_gemm2_m_threshold = -1; },
     "options.trtllm_gemm2_m_threshold: -1, expected 0 or more"},
    {"reserved_first", [](Call& c) { c.options.reserved[0] = 1; }, "options.reserved: 1, expected 0 in every byte"},
    {"reserved_last", [](Call& c) { c.options.reserved[2] = 255; }, "options.reserved: 255, expected 0 in every byte"},
    {"geometry_size_0", [](Call& c) { c.geometry.struct_size = 0; },
     "geometry.struct_size: 0, expected 40 or another version's size, as the struct's initialiser sets it"},
    {"device_size_too_small", [](Call& c) { c.device.struct_size = 84; },
     "device.struct_size: 84, expected 88 or another version's size, as the struct's initialiser sets it"},
    {"intermediate_type_negative", [](Call& c) { c.options.intermediate_type = IntermediateType{-1}; },
     "options.intermediate_type: -1, expected 0 to 1"},
    {"intermediate_type_unknown", [](Call& c) { c.options.intermediate_type = IntermediateType{2}; },
     "options.intermediate_type: 2, expected 0 to 1"},
    {"options_size_of_garbage", [](Call& c) { c.options.struct_size = 0xcccccccc; },
     "options.struct_size: 3435973836, expected 56 or another version's size, as the struct's initialiser sets it"},
    {"options_size_no_multiple", [](Call& c) { c.options.struct_size = 22; },
     "options.struct_size: 22, expected 56 or another version's size, as the struct's initialiser sets it"},
};

INSTANTIATE_TEST_SUITE_P(table, ApiPlanRefusal, testing::ValuesIn(kPlanRefusals), name_of);

// ---- Plan::bind

class ApiBindRefusal : public RefusalTest {};

TEST_P(ApiBindRefusal, names_the_argument) {
  const Result<Plan> plan = call_.plan();
  ASSERT_TRUE(plan.ok()) << plan.status().message();
  expect_refused(plan.value().bind(call_.weights).status());
  EXPECT_EQ(fakes().binds, 0);
}

const std::vector<Refusal> kBindRefusals = {
    {"weights_size", [](Call& c) { c.weights.struct_size = 448; },
     "weights.struct_size: 448, expected 456 or another version's size, as the struct's initialiser sets it"},
    {"scaling_factor_nan", [](Call& c) { c.weights.routed_scaling_factor = std::nanf(""); },
     "routed_scaling_factor: NaN, expected a finite number"},
    {"scaling_factor_infinite", [](Call& c) { c.weights.routed_scaling_factor = -INFINITY; },
     "routed_scaling_factor: infinite, expected a finite number"},

    {"bias_rank", [](Call& c) { c.weights.routing_bias.rank = 0; },
     "routing_bias: shape [], expected [256] ([E] of the plan)"},
    {"bias_shape", [](Call& c) { c.weights.routing_bias.shape[0] = 32; },
     "routing_bias: shape [32], expected [256] ([E] of the plan)"},
    {"bias_type", [](Call& c) { c.weights.routing_bias.dtype = DType::float8_e4m3; },
     "routing_bias: type float8_e4m3, expected float32 or bfloat16"},
    {"bias_device", [](Call& c) { c.weights.routing_bias.device.type = DeviceType::cuda; },
     "routing_bias: device cuda:0, expected cpu (the plan's device)"},
    {"bias_stride", [](Call& c) { c.weights.routing_bias.stride[0] = 2; },
     "routing_bias: strides [2], expected [1] (no gaps)"},
    {"bias_null", [](Call& c) { c.weights.routing_bias.data = nullptr; },
     "routing_bias: null data, expected the address of its first element"},
    {"bias_alignment_of_bf16", [](Call& c) { c.weights.routing_bias.data = moved(address(1), 1); },
     "routing_bias: address 0x100000000001, expected a multiple of 2 bytes"},
    {"bias_alignment_of_f32",
     [](Call& c) {
       c.weights.routing_bias.dtype = DType::float32;
       c.weights.routing_bias.data = moved(address(1), 2);
     },
     "routing_bias: address 0x100000000002, expected a multiple of 4 bytes"},

    {"gemm1_absent", [](Call& c) { c.weights.gemm1_weights = Tensor(); },
     "gemm1_weights: absent, expected [32, 4096, 7168] ([L, 2I, H] of the plan)"},
    {"gemm1_rank", [](Call& c) { c.weights.gemm1_weights.rank = 2; },
     "gemm1_weights: shape [32, 4096], expected [32, 4096, 7168] ([L, 2I, H] of the plan)"},
    {"gemm1_rank_5", [](Call& c) { c.weights.gemm1_weights.rank = 5; },
     "gemm1_weights: rank 5, expected [32, 4096, 7168] ([L, 2I, H] of the plan)"},
    {"gemm1_rank_negative", [](Call& c) { c.weights.gemm1_weights.rank = -3; },
     "gemm1_weights: rank -3, expected [32, 4096, 7168] ([L, 2I, H] of the plan)"},
    {"gemm1_shape", [](Call& c) { c.weights.gemm1_weights.shape = {32, 2048, 7168}; },
     "gemm1_weights: shape [32, 2048, 7168], expected [32, 4096, 7168] ([L, 2I, H] of the plan)"},
    {"gemm1_type", [](Call& c) { c.weights.gemm1_weights.dtype = DType::bfloat16; },
     "gemm1_weights: type bfloat16, expected float8_e4m3"},
    {"gemm1_device", [](Call& c) { c.weights.gemm1_weights.device = {DeviceType::cuda, 3}; },
     "gemm1_weights: device cuda:3, expected cpu (the plan's device)"},
    {"gemm1_strides", [](Call& c) { c.weights.gemm1_weights.stride = {4096 * 7184, 7184, 1}; },
     "gemm1_weights: strides [29425664, 7184, 1], expected [29360128, 7168, 1] (no gaps)"},
    {"gemm1_null", [](Call& c) { c.weights.gemm1_weights.data = nullptr; },
     "gemm1_weights: null data, expected the address of its first element"},
    {"gemm1_alignment", [](Call& c) { c.weights.gemm1_weights.data = moved(address(2), 8); },
     "gemm1_weights: address 0x200000000008, expected a multiple of 16 bytes"},

    {"gemm1_scale_absent", [](Call& c) { c.weights.gemm1_weights_scale = Tensor(); },
     "gemm1_weights_scale: absent, expected [32, 32, 56] (gemm1_weights is [32, 4096, 7168], blocks of 128)"},
    {"gemm1_scale_shape", [](Call& c) { c.weights.gemm1_weights_scale.shape = {32, 32, 55}; },
     "gemm1_weights_scale: shape [32, 32, 55], expected [32, 32, 56] (gemm1_weights is [32, 4096, 7168], blocks of "
     "128)"},
    {"gemm1_scale_type", [](Call& c) { c.weights.gemm1_weights_scale.dtype = DType::bfloat16; },
     "gemm1_weights_scale: type bfloat16, expected float32"},
    {"gemm1_scale_device", [](Call& c) { c.weights.gemm1_weights_scale.device = {DeviceType{7}, 0}; },
     "gemm1_weights_scale: device of type 7, expected cpu (the plan's device)"},
    {"gemm1_scale_transposed", [](Call& c) { c.weights.gemm1_weights_scale.stride = {1792, 1, 32}; },
     "gemm1_weights_scale: strides [1792, 1, 32], expected [1792, 56, 1] (no gaps)"},
    {"gemm1_scale_null", [](Call& c) { c.weights.gemm1_weights_scale.data = nullptr; },
     "gemm1_weights_scale: null data, expected the address of its first element"},
    {"gemm1_scale_alignment", [](Call& c) { c.weights.gemm1_weights_scale.data = moved(address(3), 2); },
     "gemm1_weights_scale: address 0x300000000002, expected a multiple of 4 bytes"},

    {"gemm2_absent", [](Call& c) { c.weights.gemm2_weights = Tensor(); },
     "gemm2_weights: absent, expected [32, 7168, 2048] ([L, H, I] of the plan)"},
    {"gemm2_shape", [](Call& c) { c.weights.gemm2_weights.shape = {32, 2048, 7168}; },
     "gemm2_weights: shape [32, 2048, 7168], expected [32, 7168, 2048] ([L, H, I] of the plan)"},
    {"gemm2_type", [](Call& c) { c.weights.gemm2_weights.dtype = DType{9}; },
     "gemm2_weights: type number 9, expected float8_e4m3"},
    {"gemm2_device", [](Call& c) { c.weights.gemm2_weights.device.index = 1; },
     "gemm2_weights: device cpu:1, expected cpu (the plan's device)"},
    {"gemm2_strides", [](Call& c) { c.weights.gemm2_weights.stride[0] = 0; },
     "gemm2_weights: strides [0, 2048, 1], expected [14680064, 2048, 1] (no gaps)"},
    {"gemm2_null", [](Call& c) { c.weights.gemm2_weights.data = nullptr; },
     "gemm2_weights: null data, expected the address of its first element"},
    {"gemm2_alignment", [](Call& c) { c.weights.gemm2_weights.data = moved(address(4), 1); },
     "gemm2_weights: address 0x400000000001, expected a multiple of 16 bytes"},

    {"gemm2_scale_absent", [](Call& c) { c.weights.gemm2_weights_scale = Tensor(); },
     "gemm2_weights_scale: absent, expected [32, 56, 16] (gemm2_weights is [32, 7168, 2048], blocks of 128)"},
    {"gemm2_scale_shape", [](Call& c) { c.weights.gemm2_weights_scale.shape = {31, 56, 16}; },
     "gemm2_weights_scale: shape [31, 56, 16], expected [32, 56, 16] (gemm2_weights is [32, 7168, 2048], blocks of "
     "128)"},
    {"gemm2_scale_type", [](Call& c) { c.weights.gemm2_weights_scale.dtype = DType::float8_e4m3; },
     "gemm2_weights_scale: type float8_e4m3, expected float32"},
    {"gemm2_scale_device", [](Call& c) { c.weights.gemm2_weights_scale.device.type = DeviceType::cuda; },
     "gemm2_weights_scale: device cuda:0, expected cpu (the plan's device)"},
    {"gemm2_scale_strides", [](Call& c) { c.weights.gemm2_weights_scale.stride[2] = 2; },
     "gemm2_weights_scale: strides [896, 16, 2], expected [896, 16, 1] (no gaps)"},
    {"gemm2_scale_null", [](Call& c) { c.weights.gemm2_weights_scale.data = nullptr; },
     "gemm2_weights_scale: null data, expected the address of its first element"},
    {"gemm2_scale_alignment", [](Call& c) { c.weights.gemm2_weights_scale.data = moved(address(5), 3); },
     "gemm2_weights_scale: address 0x500000000003, expected a multiple of 4 bytes"},
};

INSTANTIATE_TEST_SUITE_P(table, ApiBindRefusal, testing::ValuesIn(kBindRefusals), name_of);

// ---- BoundPlan::run

class ApiRunRefusal : public RefusalTest {};

TEST_P(ApiRunRefusal, names_the_argument) {
  const Result<BoundPlan> bound = call_.bind();
  ASSERT_TRUE(bound.ok()) << bound.status().message();
  expect_refused(bound.value().run(call_.activations, call_.output, call_.workspace));
}

const std::vector<Refusal> kRunRefusals = {
    {"activations_size", [](Call& c) { c.activations.struct_size = 8; },
     "activations.struct_size: 8, expected 272 or another version's size, as the struct's initialiser sets it"},

    {"hidden_absent", [](Call& c) { c.activations.hidden_states = Tensor(); },
     "hidden_states: absent, expected [T, 7168] ([T, H] of the plan)"},
    {"hidden_rank", [](Call& c) { c.activations.hidden_states.rank = 1; },
     "hidden_states: shape [16], expected [T, 7168] ([T, H] of the plan)"},
    {"hidden_rank_5", [](Call& c) { c.activations.hidden_states.rank = 5; },
     "hidden_states: rank 5, expected [T, 7168] ([T, H] of the plan)"},
    {"hidden_shape", [](Call& c) { c.activations.hidden_states.shape[1] = 7040; },
     "hidden_states: shape [16, 7040], expected [16, 7168] ([T, H] of the plan)"},
    {"tokens_negative", [](Call& c) { c.activations.hidden_states.shape[0] = -1; },
     "hidden_states: T = -1, expected 0 to 4096 (max_tokens of the plan)"},
    {"tokens_above_the_plans", [](Call& c) { c.activations.hidden_states.shape[0] = 4097; },
     "hidden_states: T = 4097, expected 0 to 4096 (max_tokens of the plan)"},
    {"hidden_type", [](Call& c) { c.activations.hidden_states.dtype = DType::bfloat16; },
     "hidden_states: type bfloat16, expected float8_e4m3"},
    {"hidden_device", [](Call& c) { c.activations.hidden_states.device.type = DeviceType::cuda; },
     "hidden_states: device cuda:0, expected cpu (the plan's device)"},
    {"hidden_columns_with_gaps", [](Call& c) { c.activations.hidden_states.stride = {14336, 2}; },
     "hidden_states: strides [14336, 2], expected [pitch, 1] (the last axis of [T, H] has no gaps)"},
    {"hidden_pitch_no_multiple", [](Call& c) { c.activations.hidden_states.stride[0] = 7176; },
     "hidden_states: row pitch 7176 elements, expected a multiple of 16 from 7168 to 262144"},
    {"hidden_pitch_below_width", [](Call& c) { c.activations.hidden_states.stride[0] = 7152; },
     "hidden_states: row pitch 7152 elements, expected a multiple of 16 from 7168 to 262144"},
    {"hidden_pitch_too_wide", [](Call& c) { c.activations.hidden_states.stride[0] = 262160; },
     "hidden_states: row pitch 262160 elements, expected a multiple of 16 from 7168 to 262144"},
    {"hidden_pitch_negative", [](Call& c) { c.activations.hidden_states.stride[0] = -7168; },
     "hidden_states: row pitch -7168 elements, expected a multiple of 16 from 7168 to 262144"},
    {"hidden_pitch_overflows", [](Call& c) { c.activations.hidden_states.stride[0] = kHugePitch; },
     "hidden_states: row pitch 4611686018427387904 elements, expected a multiple of 16 from 7168 to 262144"},
    {"hidden_null", [](Call& c) { c.activations.hidden_states.data = nullptr; },
     "hidden_states: null data, expected the address of its first element"},
    {"hidden_alignment", [](Call& c) { c.activations.hidden_states.data = moved(address(8), 4); },
     "hidden_states: address 0x800000000004, expected a multiple of 16 bytes"},

    {"logits_absent", [](Call& c) { c.activations.routing_logits = Tensor(); },
     "routing_logits: absent, expected [16, 256] (hidden_states is [16, 7168], a logit for each expert of the plan)"},
    {"logits_tokens", [](Call& c) { c.activations.routing_logits.shape[0] = 15; },
     "routing_logits: shape [15, 256], expected [16, 256] (hidden_states is [16, 7168], a logit for each expert of the "
     "plan)"},
    {"logits_experts", [](Call& c) { c.activations.routing_logits.shape[1] = 32; },
     "routing_logits: shape [16, 32], expected [16, 256] (hidden_states is [16, 7168], a logit for each expert of the "
     "plan)"},
    {"logits_type", [](Call& c) { c.activations.routing_logits.dtype = DType::float8_e4m3; },
     "routing_logits: type float8_e4m3, expected float32 or bfloat16"},
    {"logits_device", [](Call& c) { c.activations.routing_logits.device.type = DeviceType::cuda; },
     "routing_logits: device cuda:0, expected cpu (the plan's device)"},
    {"logits_transposed", [](Call& c) { c.activations.routing_logits.stride = {1, 16}; },
     "routing_logits: strides [1, 16], expected [pitch, 1] (the last axis of [T, E] has no gaps)"},
    {"logits_pitch", [](Call& c) { c.activations.routing_logits.stride[0] = 255; },
     "routing_logits: row pitch 255 elements, expected from 256 to 2147483648"},
    {"logits_null", [](Call& c) { c.activations.routing_logits.data = nullptr; },
     "routing_logits: null data, expected the address of its first element"},
    {"logits_alignment_of_f32", [](Call& c) { c.activations.routing_logits.data = moved(address(6), 2); },
     "routing_logits: address 0x600000000002, expected a multiple of 4 bytes"},
    {"logits_alignment_of_bf16",
     [](Call& c) {
       c.activations.routing_logits.dtype = DType::bfloat16;
       c.activations.routing_logits.data = moved(address(6), 1);
     },
     "routing_logits: address 0x600000000001, expected a multiple of 2 bytes"},

    {"hidden_scale_absent", [](Call& c) { c.activations.hidden_states_scale = Tensor(); },
     "hidden_states_scale: absent, expected [56, 16] (hidden_states is [16, 7168], blocks of 128)"},
    {"hidden_scale_swapped", [](Call& c) { c.activations.hidden_states_scale.shape = {16, 56}; },
     "hidden_states_scale: shape [16, 56], expected [56, 16] (hidden_states is [16, 7168], blocks of 128)"},
    {"hidden_scale_type", [](Call& c) { c.activations.hidden_states_scale.dtype = DType::bfloat16; },
     "hidden_states_scale: type bfloat16, expected float32"},
    {"hidden_scale_device", [](Call& c) { c.activations.hidden_states_scale.device.index = 2; },
     "hidden_states_scale: device cpu:2, expected cpu (the plan's device)"},
    {"hidden_scale_token_major", [](Call& c) { c.activations.hidden_states_scale.stride = {1, 56}; },
     "hidden_states_scale: strides [1, 56], expected [pitch, 1] (the last axis of [H/128, T] has no gaps)"},
    {"hidden_scale_pitch", [](Call& c) { c.activations.hidden_states_scale.stride[0] = 15; },
     "hidden_states_scale: row pitch 15 elements, expected from 16 to 2147483648"},
    {"hidden_scale_null", [](Call& c) { c.activations.hidden_states_scale.data = nullptr; },
     "hidden_states_scale: null data, expected the address of its first element"},
    {"hidden_scale_alignment", [](Call& c) { c.activations.hidden_states_scale.data = moved(address(9), 1); },
     "hidden_states_scale: address 0x900000000001, expected a multiple of 4 bytes"},

    {"output_absent", [](Call& c) { c.output = Tensor(); },
     "output: absent, expected [16, 7168] (hidden_states is [16, 7168])"},
    {"output_shape", [](Call& c) { c.output.shape[0] = 17; },
     "output: shape [17, 7168], expected [16, 7168] (hidden_states is [16, 7168])"},
    {"output_type", [](Call& c) { c.output.dtype = DType::int32; }, "output: type int32, expected bfloat16 or float32"},
    {"output_pitch_of_f32", [](Call& c) { c.output.dtype = DType::float32, c.output.stride[0] = 7170; },
     "output: row pitch 7170 elements, expected a multiple of 4 from 7168 to 2147483648"},
    {"output_device", [](Call& c) { c.output.device.type = DeviceType::cuda; },
     "output: device cuda:0, expected cpu (the plan's device)"},
    {"output_columns_with_gaps", [](Call& c) { c.output.stride = {14336, 2}; },
     "output: strides [14336, 2], expected [pitch, 1] (the last axis of [T, H] has no gaps)"},
    {"output_pitch", [](Call& c) { c.output.stride[0] = 7172; },
     "output: row pitch 7172 elements, expected a multiple of 8 from 7168 to 2147483648"},
    {"output_null", [](Call& c) { c.output.data = nullptr; },
     "output: null data, expected the address of its first element"},
    {"output_alignment", [](Call& c) { c.output.data = moved(c.output.data, 2); },
     "output: address {output}, expected a multiple of 16 bytes"},

    {"workspace_null", [](Call& c) { c.workspace.data = nullptr; }, "workspace: null, expected 4096 bytes"},
    {"workspace_too_small", [](Call& c) { c.workspace.bytes = 4095; }, "workspace: 4095 bytes, expected 4096 or more"},
    {"workspace_alignment", [](Call& c) { c.workspace.data = moved(c.workspace.data, 16); },
     "workspace: address {workspace}, expected a multiple of 256 bytes"},

    {"output_on_logits", [](Call& c) { c.activations.routing_logits.data = c.output.data; },
     "output: overlaps routing_logits, expected memory of its own"},
    {"output_on_hidden",
     [](Call& c) { c.activations.hidden_states.data = moved(c.output.data, (kTokens * 2 - 1) * kHidden); },
     "output: overlaps hidden_states, expected memory of its own"},
    {"output_on_hidden_scale", [](Call& c) { c.activations.hidden_states_scale.data = moved(c.output.data, 16); },
     "output: overlaps hidden_states_scale, expected memory of its own"},
    {"output_on_bias", [](Call& c) { c.weights.routing_bias.data = moved(c.output.data, 64); },
     "output: overlaps routing_bias, expected memory of its own"},
    {"output_on_gemm1_weights", [](Call& c) { c.weights.gemm1_weights.data = moved(c.output.data, -7168); },
     "output: overlaps gemm1_weights, expected memory of its own"},
    {"output_on_gemm1_scale", [](Call& c) { c.weights.gemm1_weights_scale.data = c.output.data; },
     "output: overlaps gemm1_weights_scale, expected memory of its own"},
    {"output_on_gemm2_weights", [](Call& c) { c.weights.gemm2_weights.data = moved(c.output.data, 7168); },
     "output: overlaps gemm2_weights, expected memory of its own"},
    {"output_on_gemm2_scale", [](Call& c) { c.weights.gemm2_weights_scale.data = c.output.data; },
     "output: overlaps gemm2_weights_scale, expected memory of its own"},
    {"workspace_on_output",
     [](Call& c) { c.workspace = {moved(c.output.data, kTokens * kHidden * 2 - 256), kWorkspaceBytes}; },
     "workspace: overlaps output, expected memory of its own"},
    {"workspace_on_hidden", [](Call& c) { c.workspace.data = moved(address(8), kTokens * kHidden - 256); },
     "workspace: overlaps hidden_states, expected memory of its own"},
    {"workspace_on_gemm2_weights", [](Call& c) { c.workspace.data = moved(address(4), 1 << 20); },
     "workspace: overlaps gemm2_weights, expected memory of its own"},
};

INSTANTIATE_TEST_SUITE_P(table, ApiRunRefusal, testing::ValuesIn(kRunRefusals), name_of);

// ---- BoundPlan::run_prerouted

struct PreroutedCall : Call {
  PreroutedActivations prerouted;

  PreroutedCall() {
    prerouted.topk_ids = Tensor::contiguous(address(10), DType::int32, {}, {kTokens, 8});
    prerouted.topk_weights = Tensor::contiguous(address(11), DType::float32, {}, {kTokens, 8});
    prerouted.hidden_states = activations.hidden_states;
    prerouted.hidden_states_scale = activations.hidden_states_scale;
  }

  Status run_prerouted() const {
    const Result<BoundPlan> bound = bind();
    return bound.ok() ? bound.value().run_prerouted(prerouted, output, workspace) : bound.status();
  }
};

struct PreroutedRefusal {
  const char* name;
  void (*change)(PreroutedCall&);
  const char* message;
};

class ApiPreroutedRefusal : public testing::TestWithParam<PreroutedRefusal> {};

TEST_P(ApiPreroutedRefusal, names_the_argument) {
  reset_fakes();
  PreroutedCall call;
  GetParam().change(call);
  const Status status = call.run_prerouted();
  EXPECT_EQ(status.code(), StatusCode::invalid_argument);
  EXPECT_EQ(status.message(), GetParam().message);
  EXPECT_EQ(fakes().runs, 0);
  EXPECT_TRUE(call.output_is_untouched());
}

const std::vector<PreroutedRefusal> kPreroutedRefusals = {
    {"activations_size", [](PreroutedCall& c) { c.prerouted.struct_size = 352; },
     "activations.struct_size: 352, expected 360 or another version's size, as the struct's initialiser sets it"},
    {"reserved", [](PreroutedCall& c) { c.prerouted.reserved = 1; }, "activations.reserved: 1, expected 0"},
    {"ids_absent", [](PreroutedCall& c) { c.prerouted.topk_ids = Tensor(); },
     "topk_ids: absent, expected [16, 8] (hidden_states is [16, 7168], as many picks as the plan's top_k)"},
    {"ids_too_few_picks", [](PreroutedCall& c) { c.prerouted.topk_ids.shape[1] = 6; },
     "topk_ids: shape [16, 6], expected [16, 8] (hidden_states is [16, 7168], as many picks as the plan's top_k)"},
    {"ids_type", [](PreroutedCall& c) { c.prerouted.topk_ids.dtype = DType::float32; },
     "topk_ids: type float32, expected int32"},
    {"ids_device", [](PreroutedCall& c) { c.prerouted.topk_ids.device.type = DeviceType::cuda; },
     "topk_ids: device cuda:0, expected cpu (the plan's device)"},
    {"ids_columns_apart", [](PreroutedCall& c) { c.prerouted.topk_ids.stride = {16, 2}; },
     "topk_ids: strides [16, 2], expected [pitch, 1] (the last axis of [T, K] has no gaps)"},
    {"ids_alignment", [](PreroutedCall& c) { c.prerouted.topk_ids.data = moved(address(10), 2); },
     "topk_ids: address 0xa00000000002, expected a multiple of 4 bytes"},
    {"weights_shape", [](PreroutedCall& c) { c.prerouted.topk_weights.shape[0] = 15; },
     "topk_weights: shape [15, 8], expected [16, 8] (topk_ids is [16, 8])"},
    {"weights_type", [](PreroutedCall& c) { c.prerouted.topk_weights.dtype = DType::bfloat16; },
     "topk_weights: type bfloat16, expected float32"},
    {"weights_null", [](PreroutedCall& c) { c.prerouted.topk_weights.data = nullptr; },
     "topk_weights: null data, expected the address of its first element"},
    {"hidden_tokens", [](PreroutedCall& c) { c.prerouted.hidden_states.shape[0] = 4097; },
     "hidden_states: T = 4097, expected 0 to 4096 (max_tokens of the plan)"},
    {"output_on_ids", [](PreroutedCall& c) { c.prerouted.topk_ids.data = c.output.data; },
     "output: overlaps topk_ids, expected memory of its own"},
    {"workspace_small", [](PreroutedCall& c) { c.workspace.bytes = 1; }, "workspace: 1 bytes, expected 4096 or more"},
};

INSTANTIATE_TEST_SUITE_P(table, ApiPreroutedRefusal, testing::ValuesIn(kPreroutedRefusals),
                         [](const auto& tested) { return tested.param.name; });

TEST(ApiPrerouted, picks_reach_the_backend_as_they_are) {
  reset_fakes();
  PreroutedCall call;
  call.prerouted.topk_ids.stride[0] = 12;
  const Status status = call.run_prerouted();
  EXPECT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(fakes().runs, 1);
  EXPECT_EQ(fakes().picks.experts, address(10));
  EXPECT_EQ(fakes().picks.experts_pitch, 12);
  EXPECT_EQ(fakes().picks.weights, address(11));
  EXPECT_EQ(fakes().picks.weights_pitch, 8);
  EXPECT_EQ(fakes().activations.routing_logits, nullptr);
  EXPECT_EQ(fakes().activations.hidden, address(8));
}

TEST(ApiPrerouted, no_token_looks_at_no_address) {
  reset_fakes();
  PreroutedCall call;
  for (Tensor* tensor : {&call.prerouted.topk_ids, &call.prerouted.topk_weights, &call.prerouted.hidden_states}) {
    tensor->data = nullptr;
    tensor->shape[0] = 0;
  }
  call.prerouted.hidden_states_scale.shape[1] = call.output.shape[0] = 0;
  EXPECT_TRUE(call.run_prerouted().ok());
  EXPECT_EQ(fakes().runs, 0);
}

TEST(ApiPrerouted, a_backend_that_takes_no_picks_says_so) {
  reset_fakes();
  PreroutedCall call;
  const Device gpu{DeviceType::cuda, 0};
  call.device = describe_device("sm_90a").value();
  for (Tensor* tensor : {&call.weights.routing_bias, &call.weights.gemm1_weights, &call.weights.gemm1_weights_scale,
                         &call.weights.gemm2_weights, &call.weights.gemm2_weights_scale}) {
    tensor->device = gpu;
  }
  const Status status = call.run_prerouted();
  EXPECT_EQ(status.code(), StatusCode::unsupported);
  EXPECT_EQ(status.message(), "topk_ids: the backend hopper takes no picks");
  EXPECT_EQ(fakes().runs, 0);
}

// ---- BoundPlan::route

struct RouteCall : Call {
  Tensor logits = activations.routing_logits;
  Tensor ids = Tensor::contiguous(address(10), DType::int32, {}, {kTokens, 8});
  Tensor id_weights = Tensor::contiguous(address(11), DType::float32, {}, {kTokens, 8});

  Status route() const {
    const Result<BoundPlan> bound = bind();
    return bound.ok() ? bound.value().route(logits, ids, id_weights) : bound.status();
  }
};

struct RouteRefusal {
  const char* name;
  void (*change)(RouteCall&);
  const char* message;
};

class ApiRouteRefusal : public testing::TestWithParam<RouteRefusal> {};

TEST_P(ApiRouteRefusal, names_the_argument) {
  reset_fakes();
  RouteCall call;
  GetParam().change(call);
  const Status status = call.route();
  EXPECT_EQ(status.code(), StatusCode::invalid_argument);
  EXPECT_EQ(status.message(), GetParam().message);
  EXPECT_EQ(fakes().runs, 0);
}

const std::vector<RouteRefusal> kRouteRefusals = {
    {"logits_absent", [](RouteCall& c) { c.logits = Tensor(); },
     "routing_logits: absent, expected [T, 256] ([T, E] of the plan)"},
    {"logits_width", [](RouteCall& c) { c.logits.shape[1] = 128; },
     "routing_logits: shape [16, 128], expected [16, 256] ([T, E] of the plan)"},
    {"logits_type", [](RouteCall& c) { c.logits.dtype = DType::int32; },
     "routing_logits: type int32, expected float32 or bfloat16"},
    {"tokens", [](RouteCall& c) { c.logits.shape[0] = 4097; },
     "routing_logits: T = 4097, expected 0 to 4096 (max_tokens of the plan)"},
    {"ids_tokens", [](RouteCall& c) { c.ids.shape[0] = 15; },
     "topk_ids: shape [15, 8], expected [16, 8] (routing_logits is [16, 256], as many picks as the plan's top_k)"},
    {"ids_type", [](RouteCall& c) { c.ids.dtype = DType::float32; }, "topk_ids: type float32, expected int32"},
    {"ids_with_gaps", [](RouteCall& c) { c.ids.stride[0] = 12; },
     "topk_ids: strides [12, 1], expected [8, 1] (no gaps)"},
    {"ids_null", [](RouteCall& c) { c.ids.data = nullptr; },
     "topk_ids: null data, expected the address of its first element"},
    {"weights_type", [](RouteCall& c) { c.id_weights.dtype = DType::bfloat16; },
     "topk_weights: type bfloat16, expected float32"},
    {"weights_picks", [](RouteCall& c) { c.id_weights.shape[1] = 4; },
     "topk_weights: shape [16, 4], expected [16, 8] (topk_ids is [16, 8])"},
    {"ids_on_weights", [](RouteCall& c) { c.ids.data = moved(c.id_weights.data, 4); },
     "topk_ids: overlaps topk_weights, expected memory of its own"},
    {"ids_on_logits", [](RouteCall& c) { c.ids.data = c.logits.data; },
     "topk_ids: overlaps routing_logits, expected memory of its own"},
    {"weights_on_bias", [](RouteCall& c) { c.id_weights.data = c.weights.routing_bias.data; },
     "topk_weights: overlaps routing_bias, expected memory of its own"},
};

INSTANTIATE_TEST_SUITE_P(table, ApiRouteRefusal, testing::ValuesIn(kRouteRefusals),
                         [](const auto& tested) { return tested.param.name; });

TEST(ApiRoute, arguments_reach_the_backend_as_they_are) {
  reset_fakes();
  RouteCall call;
  call.logits.stride[0] = 300;
  const Status status = call.route();
  EXPECT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(fakes().runs, 1);
  EXPECT_EQ(fakes().activations.tokens, kTokens);
  EXPECT_EQ(fakes().activations.routing_logits, address(6));
  EXPECT_EQ(fakes().activations.routing_logits_pitch, 300);
  EXPECT_EQ(fakes().routed.experts, address(10));
  EXPECT_EQ(fakes().routed.weights, address(11));
}

TEST(ApiRoute, no_token_looks_at_no_address) {
  reset_fakes();
  RouteCall call;
  for (Tensor* tensor : {&call.logits, &call.ids, &call.id_weights}) {
    tensor->data = nullptr;
    tensor->shape[0] = 0;
  }
  EXPECT_TRUE(call.route().ok());
  EXPECT_EQ(fakes().runs, 0);
}

// ---- wishes of a later version

TEST(ApiRefusal, a_field_of_a_later_version_that_is_set_is_unsupported) {
  reset_fakes();
  struct {
    Options options;
    std::int32_t later = 1;
  } longer;
  longer.options.struct_size = sizeof longer;
  Call call;
  const Status status = Plan::create(call.geometry, 16, call.device, longer.options).status();
  EXPECT_EQ(status.code(), StatusCode::unsupported);
  EXPECT_EQ(status.message(),
            "options: has 60 bytes with a field set past byte 56, expected zeros there (blockmoe " BLOCKMOE_VERSION
            " knows 56 bytes)");
  EXPECT_EQ(fakes().plans, 0);
}

}  // namespace
}  // namespace blockmoe::test
