// The C ABI: the same calls, messages and promises as the C++ API, from a C translation unit (api_c_call.c).
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <string>
#include <vector>

#include "api_c_call.h"
#include "api_fake_backend.hpp"
#include "blockmoe/blockmoe.hpp"

namespace blockmoe::test {
namespace {

constexpr std::size_t kOutputElements = std::size_t{16} * 7168;
constexpr std::uint16_t kUntouched = 0xabcd;

class ApiC : public testing::Test {
 protected:
  ApiC() {
    reset_fakes();
    std::fill(std::begin(output_), std::end(output_), kUntouched);
    call_ = c_call_make(output_, workspace_);
  }

  void TearDown() override {
    blockmoe_bound_plan_destroy(bound_);
    blockmoe_plan_destroy(plan_);
  }

  void make_plan() {
    ASSERT_EQ(blockmoe_plan_create(&call_.geometry, 4096, &call_.device, nullptr, &plan_, &error_), BLOCKMOE_OK)
        << error_.message;
  }
  void bind() {
    make_plan();
    ASSERT_EQ(blockmoe_plan_bind(plan_, &call_.weights, &bound_, &error_), BLOCKMOE_OK) << error_.message;
  }
  void expect_refused(blockmoe_status status, const std::string& message) const {
    EXPECT_EQ(status, BLOCKMOE_INVALID_ARGUMENT);
    EXPECT_EQ(error_.code, BLOCKMOE_INVALID_ARGUMENT);
    EXPECT_EQ(error_.message, message);
    EXPECT_EQ(fakes().runs, 0);
    EXPECT_TRUE(
        std::all_of(std::begin(output_), std::end(output_), [](auto element) { return element == kUntouched; }));
  }

  alignas(256) std::uint16_t output_[kOutputElements];
  alignas(256) unsigned char workspace_[kWorkspaceBytes];
  c_call call_;
  blockmoe_error error_ = blockmoe_error_init();
  blockmoe_plan* plan_ = nullptr;
  blockmoe_bound_plan* bound_ = nullptr;
};

// ---- a whole call

TEST_F(ApiC, runs) {
  error_.code = 99;
  std::strcpy(error_.message, "left from before");
  call_.options.gate_first = 1;
  call_.options.max_threads = 2;
  call_.options.pruning.max_local_picks = 3;
  call_.options.pruning.min_weight_share = 0.25F;
  call_.options.batch_invariant = 1;
  call_.options.intermediate_type = BLOCKMOE_INTERMEDIATE_E4M3X2;
  call_.options.policy = BLOCKMOE_POLICY_REFERENCE_B200;
  call_.options.no_trtllm_gemm1 = 1;
  call_.options.no_trtllm_gemm2 = 1;
  call_.options.mma_gemm2_m_threshold = 33;
  call_.options.trtllm_gemm2_m_threshold = 44;
  EXPECT_EQ(c_call_run(&call_, &error_), BLOCKMOE_OK);
  EXPECT_EQ(error_.code, BLOCKMOE_OK);
  EXPECT_STREQ(error_.message, "");
  EXPECT_TRUE(std::all_of(std::begin(output_), std::end(output_), [](auto element) { return element == kWritten; }));

  EXPECT_EQ(fakes().request.options.max_threads, 2);
  EXPECT_EQ(fakes().request.options.pruning.max_local_picks, 3);
  EXPECT_EQ(fakes().request.options.pruning.min_weight_share, 0.25F);
  EXPECT_TRUE(fakes().request.options.batch_invariant);
  EXPECT_EQ(fakes().request.options.intermediate_type, IntermediateType::e4m3x2);
  EXPECT_EQ(fakes().request.options.policy, Policy::reference_b200);
  EXPECT_EQ(fakes().request.options.no_trtllm_gemm1, 1);
  EXPECT_EQ(fakes().request.options.no_trtllm_gemm2, 1);
  EXPECT_EQ(fakes().request.options.mma_gemm2_m_threshold, 33);
  EXPECT_EQ(fakes().request.options.trtllm_gemm2_m_threshold, 44);
  EXPECT_EQ(fakes().weights.local_expert_offset, 32);
  EXPECT_EQ(fakes().weights.routed_scaling_factor, 2.5F);
  EXPECT_TRUE(fakes().weights.gate_first);
  EXPECT_EQ(fakes().weights.w13, call_.weights.gemm1_weights.data);
  EXPECT_EQ(fakes().weights.w13_scale, call_.weights.gemm1_weights_scale.data);
  EXPECT_EQ(fakes().weights.w2, call_.weights.gemm2_weights.data);
  EXPECT_EQ(fakes().weights.w2_scale, call_.weights.gemm2_weights_scale.data);
  EXPECT_EQ(fakes().weights.routing_bias, call_.weights.routing_bias.data);
  EXPECT_EQ(fakes().activations.routing_logits, call_.activations.routing_logits.data);
  EXPECT_EQ(fakes().activations.hidden, call_.activations.hidden_states.data);
  EXPECT_EQ(fakes().activations.hidden_scale, call_.activations.hidden_states_scale.data);
}

TEST_F(ApiC, a_null_error_is_accepted) {
  EXPECT_EQ(c_call_run(&call_, nullptr), BLOCKMOE_OK);
  call_.geometry.hidden = 1;
  EXPECT_EQ(c_call_run(&call_, nullptr), BLOCKMOE_INVALID_ARGUMENT);
}

TEST_F(ApiC, tells_of_the_plan) {
  make_plan();
  EXPECT_EQ(blockmoe_plan_backend(plan_), BLOCKMOE_BACKEND_CPU);
  EXPECT_STREQ(blockmoe_plan_path(plan_), "cpu/fake");
  EXPECT_STREQ(blockmoe_plan_gemm1_path(plan_), "cpu/fake");
  EXPECT_STREQ(blockmoe_plan_gemm2_path(plan_), "cpu/fake");
  EXPECT_STREQ(blockmoe_plan_explain(plan_), "a fake\n");
  blockmoe_workspace_need need = blockmoe_workspace_need_init();
  EXPECT_EQ(blockmoe_plan_workspace(plan_, &need, &error_), BLOCKMOE_OK);
  EXPECT_EQ(need.bytes, kWorkspaceBytes);
  EXPECT_EQ(need.alignment, 256U);
  EXPECT_EQ(need.init, BLOCKMOE_WORKSPACE_ZEROED_ONCE);
}

TEST_F(ApiC, tells_of_devices) {
  blockmoe_device_info info = blockmoe_device_info_init();
  EXPECT_EQ(blockmoe_describe_device("sm_90a", &info, &error_), BLOCKMOE_OK);
  EXPECT_EQ(info.device_type, BLOCKMOE_DEVICE_CUDA);
  EXPECT_EQ(info.compute_capability, 90);
  EXPECT_EQ(info.sm_count, 132);
  EXPECT_EQ(info.shared_memory_per_block, 232448);
  EXPECT_EQ(blockmoe_query_device(BLOCKMOE_DEVICE_CPU, 0, &info, &error_), BLOCKMOE_OK);
  EXPECT_EQ(info.sm_count, query_device({}).value().sm_count);
  EXPECT_STREQ(info.name, query_device({}).value().name);
  expect_refused(blockmoe_query_device(BLOCKMOE_DEVICE_CPU, 2, &info, &error_),
                 "device.index: 2, expected 0 (the CPU is one device)");
}

TEST_F(ApiC, has_a_version) {
  EXPECT_EQ(blockmoe_version(), static_cast<std::uint32_t>(BLOCKMOE_VERSION_NUMBER));
  EXPECT_STREQ(blockmoe_version_string(), BLOCKMOE_VERSION);
}

TEST_F(ApiC, initialisers_hold_the_defaults_of_the_cpp_structs) {
  const Geometry geometry;
  EXPECT_EQ(call_.geometry.experts, geometry.experts);
  EXPECT_EQ(call_.geometry.hidden, geometry.hidden);
  EXPECT_EQ(call_.geometry.intermediate, geometry.intermediate);
  EXPECT_EQ(call_.geometry.local_experts, geometry.local_experts);
  EXPECT_EQ(call_.geometry.top_k, geometry.top_k);
  EXPECT_EQ(call_.geometry.n_group, geometry.n_group);
  EXPECT_EQ(call_.geometry.topk_group, geometry.topk_group);
  const Options options;
  EXPECT_EQ(call_.options.backend, static_cast<std::int32_t>(options.backend));
  EXPECT_EQ(call_.options.gate_first != 0, options.gate_first);
  EXPECT_EQ(call_.options.max_sms, options.max_sms);
  EXPECT_EQ(call_.options.max_threads, options.max_threads);
  EXPECT_EQ(call_.options.pruning.max_local_picks, options.pruning.max_local_picks);
  EXPECT_EQ(call_.options.pruning.min_weight_share, options.pruning.min_weight_share);
  EXPECT_EQ(call_.options.batch_invariant != 0, options.batch_invariant);
  EXPECT_EQ(call_.options.policy, static_cast<std::int32_t>(options.policy));
  EXPECT_EQ(call_.options.intermediate_type, static_cast<std::int32_t>(options.intermediate_type));
  EXPECT_EQ(call_.options.no_trtllm_gemm1, options.no_trtllm_gemm1);
  EXPECT_EQ(call_.options.no_trtllm_gemm2, options.no_trtllm_gemm2);
  EXPECT_EQ(call_.options.mma_gemm2_m_threshold, options.mma_gemm2_m_threshold);
  EXPECT_EQ(call_.options.trtllm_gemm2_m_threshold, options.trtllm_gemm2_m_threshold);
  EXPECT_EQ(blockmoe_weights_init().routed_scaling_factor, Weights().routed_scaling_factor);
  EXPECT_EQ(blockmoe_weights_init().local_expert_offset, Weights().local_expert_offset);
}

TEST_F(ApiC, runs_on_the_callers_picks) {
  bind();
  const std::int64_t shape[] = {16, 8};
  blockmoe_prerouted_activations activations = blockmoe_prerouted_activations_init();
  activations.topk_ids = blockmoe_tensor_contiguous(&call_, BLOCKMOE_INT32, BLOCKMOE_DEVICE_CPU, 0, 2, shape);
  activations.topk_weights = blockmoe_tensor_contiguous(&call_, BLOCKMOE_FLOAT32, BLOCKMOE_DEVICE_CPU, 0, 2, shape);
  activations.hidden_states = call_.activations.hidden_states;
  activations.hidden_states_scale = call_.activations.hidden_states_scale;
  const auto run = [&] {
    return blockmoe_bound_plan_run_prerouted(bound_, &activations, &call_.output, workspace_, sizeof workspace_,
                                             nullptr, &error_);
  };
  activations.topk_weights.shape[1] = 4;
  expect_refused(run(), "topk_weights: shape [16, 4], expected [16, 8] (topk_ids is [16, 8])");
  activations.topk_weights.shape[1] = 8;
  EXPECT_EQ(run(), BLOCKMOE_OK) << error_.message;
  EXPECT_TRUE(std::all_of(std::begin(output_), std::end(output_), [](auto element) { return element == kWritten; }));
  EXPECT_EQ(fakes().picks.experts, activations.topk_ids.data);
  EXPECT_EQ(fakes().picks.weights, activations.topk_weights.data);
  EXPECT_EQ(fakes().activations.hidden_scale, activations.hidden_states_scale.data);
}

TEST_F(ApiC, routes_alone) {
  bind();
  const std::int64_t shape[] = {16, 8};
  blockmoe_tensor ids = blockmoe_tensor_contiguous(&call_, BLOCKMOE_INT32, BLOCKMOE_DEVICE_CPU, 0, 2, shape);
  const blockmoe_tensor weights =
      blockmoe_tensor_contiguous(output_, BLOCKMOE_FLOAT32, BLOCKMOE_DEVICE_CPU, 0, 2, shape);
  const auto route = [&] {
    return blockmoe_bound_plan_route(bound_, &call_.activations.routing_logits, &ids, &weights, nullptr, &error_);
  };
  ids.shape[1] = 4;
  expect_refused(route(),
                 "topk_ids: shape [16, 4], expected [16, 8] (routing_logits is [16, 256], as many picks as the plan's "
                 "top_k)");
  ids.shape[1] = 8;
  EXPECT_EQ(route(), BLOCKMOE_OK) << error_.message;
  EXPECT_EQ(fakes().routed.experts, ids.data);
  EXPECT_EQ(fakes().routed.weights, weights.data);
}

// ---- refusals

TEST_F(ApiC, messages_are_those_of_the_library) {
  call_.weights.gemm1_weights_scale.shape[2] = 55;
  expect_refused(c_call_run(&call_, &error_),
                 "gemm1_weights_scale: shape [32, 32, 55], expected [32, 32, 56] (gemm1_weights is [32, 4096, 7168], "
                 "blocks of 128)");
  call_ = c_call_make(output_, workspace_);
  call_.geometry.top_k = 33;
  expect_refused(c_call_run(&call_, &error_), "geometry.top_k: 33, expected 1 to 32");
  call_ = c_call_make(output_, workspace_);
  call_.output.device_type = BLOCKMOE_DEVICE_CUDA;
  call_.output.device_index = 1;
  expect_refused(c_call_run(&call_, &error_), "output: device cuda:1, expected cpu (the plan's device)");
  call_ = c_call_make(output_, workspace_);
  call_.workspace_bytes = 100;
  expect_refused(c_call_run(&call_, &error_), "workspace: 100 bytes, expected 4096 or more");
}

TEST_F(ApiC, a_flag_is_0_or_1) {
  call_.options.gate_first = 2;
  expect_refused(c_call_run(&call_, &error_), "options.gate_first: 2, expected 0 or 1");
  call_.options.gate_first = 0;
  call_.options.batch_invariant = -1;
  expect_refused(c_call_run(&call_, &error_), "options.batch_invariant: -1, expected 0 or 1");
}

TEST_F(ApiC, null_arguments_are_named) {
  bind();
  blockmoe_device_info info = blockmoe_device_info_init();
  blockmoe_plan* plan = nullptr;
  blockmoe_bound_plan* bound = nullptr;
  const auto expect_null = [&](blockmoe_status status, const char* argument) {
    expect_refused(status, std::string(argument) + ": null, expected an address");
  };
  expect_null(blockmoe_query_device(0, 0, nullptr, &error_), "info");
  expect_null(blockmoe_describe_device(nullptr, &info, &error_), "name");
  expect_null(blockmoe_describe_device("cpu", nullptr, &error_), "info");
  expect_null(blockmoe_plan_create(nullptr, 16, &call_.device, nullptr, &plan, &error_), "geometry");
  expect_null(blockmoe_plan_create(&call_.geometry, 16, nullptr, nullptr, &plan, &error_), "device");
  expect_null(blockmoe_plan_create(&call_.geometry, 16, &call_.device, nullptr, nullptr, &error_), "plan");
  blockmoe_workspace_need need = blockmoe_workspace_need_init();
  expect_null(blockmoe_plan_workspace(nullptr, &need, &error_), "plan");
  expect_null(blockmoe_plan_workspace(plan_, nullptr, &error_), "need");
  expect_null(blockmoe_plan_bind(nullptr, &call_.weights, &bound, &error_), "plan");
  expect_null(blockmoe_plan_bind(plan_, nullptr, &bound, &error_), "weights");
  expect_null(blockmoe_plan_bind(plan_, &call_.weights, nullptr, &error_), "bound");
  const auto run_with = [&](const blockmoe_bound_plan* b, const blockmoe_activations* a, const blockmoe_tensor* o) {
    return blockmoe_bound_plan_run(b, a, o, workspace_, sizeof workspace_, nullptr, &error_);
  };
  expect_null(run_with(nullptr, &call_.activations, &call_.output), "bound");
  expect_null(run_with(bound_, nullptr, &call_.output), "activations");
  expect_null(run_with(bound_, &call_.activations, nullptr), "output");
  const auto run_prerouted_with = [&](const blockmoe_bound_plan* b, const blockmoe_prerouted_activations* a,
                                      const blockmoe_tensor* o) {
    return blockmoe_bound_plan_run_prerouted(b, a, o, workspace_, sizeof workspace_, nullptr, &error_);
  };
  const blockmoe_prerouted_activations prerouted = blockmoe_prerouted_activations_init();
  expect_null(run_prerouted_with(nullptr, &prerouted, &call_.output), "bound");
  expect_null(run_prerouted_with(bound_, nullptr, &call_.output), "activations");
  expect_null(run_prerouted_with(bound_, &prerouted, nullptr), "output");
  const blockmoe_tensor* const some = &call_.output;
  expect_null(blockmoe_bound_plan_route(nullptr, some, some, some, nullptr, &error_), "bound");
  expect_null(blockmoe_bound_plan_route(bound_, nullptr, some, some, nullptr, &error_), "routing_logits");
  expect_null(blockmoe_bound_plan_route(bound_, some, nullptr, some, nullptr, &error_), "topk_ids");
  expect_null(blockmoe_bound_plan_route(bound_, some, some, nullptr, nullptr, &error_), "topk_weights");
  EXPECT_EQ(plan, nullptr);
  EXPECT_EQ(bound, nullptr);
}

TEST_F(ApiC, a_group_names_what_is_missing) {
  blockmoe_ep_group* group = nullptr;
  expect_refused(blockmoe_ep_group_create(nullptr, 16, &call_.device, nullptr, nullptr, nullptr, &group, &error_),
                 "layer: null, expected an address");
  expect_refused(
      blockmoe_ep_group_create(&call_.geometry, 16, &call_.device, nullptr, nullptr, nullptr, nullptr, &error_),
      "group: null, expected an address");
  blockmoe_ep_options options = blockmoe_ep_options_init();
  options.struct_size = 20;
  expect_refused(
      blockmoe_ep_group_create(&call_.geometry, 16, &call_.device, nullptr, &options, nullptr, &group, &error_),
      "ep_options.struct_size: 20, expected 56 or another version's size, as the struct's initialiser sets it");
  EXPECT_NE(blockmoe_ep_group_create(&call_.geometry, 16, &call_.device, nullptr, nullptr, nullptr, &group, &error_),
            BLOCKMOE_OK);  // a group is of GPUs
  EXPECT_EQ(group, nullptr);
  EXPECT_EQ(blockmoe_ep_group_rank(nullptr), -1);
  EXPECT_STREQ(blockmoe_ep_group_explain(nullptr), "");
  blockmoe_ep_group_destroy(nullptr);
  blockmoe_bound_ep_group_destroy(nullptr);
  expect_refused(blockmoe_ep_group_check(nullptr, nullptr, 1, &error_), "group: null, expected an address");
  expect_refused(
      blockmoe_bound_ep_group_run(nullptr, &call_.activations, &call_.output, nullptr, 0, nullptr, 0, &error_),
      "bound: null, expected an address");
}

TEST_F(ApiC, a_null_plan_tells_nothing_and_is_destroyed) {
  EXPECT_EQ(blockmoe_plan_backend(nullptr), BLOCKMOE_BACKEND_AUTOMATIC);
  EXPECT_STREQ(blockmoe_plan_path(nullptr), "");
  EXPECT_STREQ(blockmoe_plan_gemm1_path(nullptr), "");
  EXPECT_STREQ(blockmoe_plan_gemm2_path(nullptr), "");
  EXPECT_STREQ(blockmoe_plan_explain(nullptr), "");
  blockmoe_plan_destroy(nullptr);
  blockmoe_bound_plan_destroy(nullptr);
}

TEST_F(ApiC, a_failed_call_leaves_the_handle_alone) {
  auto* const before = reinterpret_cast<blockmoe_plan*>(&call_);
  blockmoe_plan* plan = before;
  call_.geometry.experts = 0;
  expect_refused(blockmoe_plan_create(&call_.geometry, 16, &call_.device, nullptr, &plan, &error_),
                 "geometry.experts: 0, expected 1 to 1024");
  EXPECT_EQ(plan, before);
}

TEST_F(ApiC, sizes_that_no_version_has_are_refused) {
  const auto expected = [](const char* argument, std::uint32_t size) {
    return std::string(argument) + ".struct_size: 3, expected " + std::to_string(size) +
           " or another version's size, as the struct's initialiser sets it";
  };
  bind();
  blockmoe_plan* plan = nullptr;
  blockmoe_bound_plan* bound = nullptr;
  c_call wrong = call_;
  wrong.geometry.struct_size = wrong.device.struct_size = wrong.options.struct_size = 3;
  wrong.weights.struct_size = wrong.activations.struct_size = 3;
  expect_refused(blockmoe_plan_create(&wrong.geometry, 16, &call_.device, nullptr, &plan, &error_),
                 expected("geometry", 40));
  expect_refused(blockmoe_plan_create(&call_.geometry, 16, &wrong.device, nullptr, &plan, &error_),
                 expected("device", 88));
  expect_refused(blockmoe_plan_create(&call_.geometry, 16, &call_.device, &wrong.options, &plan, &error_),
                 expected("options", sizeof(Options)));
  expect_refused(blockmoe_plan_bind(plan_, &wrong.weights, &bound, &error_), expected("weights", 456));
  expect_refused(blockmoe_bound_plan_run(bound_, &wrong.activations, &call_.output, workspace_, sizeof workspace_,
                                         nullptr, &error_),
                 expected("activations", 272));
  expect_refused(blockmoe_describe_device("cpu", &wrong.device, &error_), expected("info", 88));
  blockmoe_workspace_need need = blockmoe_workspace_need_init();
  need.struct_size = 3;
  expect_refused(blockmoe_plan_workspace(plan_, &need, &error_), expected("need", 24));
}

TEST_F(ApiC, a_field_of_a_later_version_that_is_set_is_unsupported) {
  struct {
    blockmoe_options options;
    std::int32_t later;
  } longer = {blockmoe_options_init(), 0};
  longer.options.struct_size = sizeof longer;
  EXPECT_EQ(blockmoe_plan_create(&call_.geometry, 16, &call_.device, &longer.options, &plan_, &error_), BLOCKMOE_OK);
  longer.later = 1;
  blockmoe_plan* plan = nullptr;
  EXPECT_EQ(blockmoe_plan_create(&call_.geometry, 16, &call_.device, &longer.options, &plan, &error_),
            BLOCKMOE_UNSUPPORTED);
  EXPECT_EQ(plan, nullptr);
}

// ---- blockmoe_error

TEST_F(ApiC, an_error_is_written_no_further_than_its_size) {
  call_.geometry.top_k = 33;  // "geometry.top_k: 33, expected 1 to 32"
  struct Room {
    std::uint32_t size;
    const char* message;
  };
  const std::uint32_t header = offsetof(blockmoe_error, message);
  for (const Room& room :
       {Room{header + 15, "geometry.top_k"}, Room{header + 1, ""}, Room{header, "????"}, Room{0, "????"}}) {
    blockmoe_error error;
    std::memset(&error, '?', sizeof error);
    const blockmoe_error before = error;
    error.struct_size = room.size;
    EXPECT_EQ(c_call_run(&call_, &error), BLOCKMOE_INVALID_ARGUMENT);
    EXPECT_EQ(std::string(error.message, std::strlen(room.message)), room.message);
    const auto* bytes = reinterpret_cast<const unsigned char*>(&error);
    const auto* canaries = reinterpret_cast<const unsigned char*>(&before);
    const std::size_t end = std::max<std::size_t>(room.size, sizeof error.struct_size);
    EXPECT_TRUE(std::equal(bytes + end, bytes + sizeof error, canaries + end)) << room.size;
  }
}

TEST_F(ApiC, a_message_that_is_too_long_is_cut) {
  fakes().run_status = Status(StatusCode::device_error, std::string(5000, 'x'));
  EXPECT_EQ(c_call_run(&call_, &error_), BLOCKMOE_DEVICE_ERROR);
  EXPECT_EQ(error_.message, std::string(sizeof error_.message - 1, 'x'));
}

TEST_F(ApiC, no_exception_crosses) {
  fakes().thrown = "no thread could be started";
  EXPECT_EQ(c_call_run(&call_, &error_), BLOCKMOE_DEVICE_ERROR);
  EXPECT_STREQ(error_.message, "no thread could be started");
  fakes().thrown = "bad_alloc";
  EXPECT_EQ(c_call_run(&call_, &error_), BLOCKMOE_OUT_OF_MEMORY);
  EXPECT_STREQ(error_.message, "host memory");
}

}  // namespace
}  // namespace blockmoe::test
