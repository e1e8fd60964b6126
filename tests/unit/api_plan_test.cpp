// What reaches the backend from a valid call, which backend is chosen, and what Plan and BoundPlan promise as values.
#include <gtest/gtest.h>

#include <optional>
#include <thread>
#include <vector>

#include "api_call.hpp"

namespace blockmoe::test {
namespace {

class ApiTest : public testing::Test {
 protected:
  ApiTest() { reset_fakes(); }

  Call call_;
};

Status run(const Result<BoundPlan>& bound, const Call& call) {
  return bound.ok() ? bound.value().run(call.activations, call.output, call.workspace) : bound.status();
}

DeviceInfo gpu(std::int32_t compute_capability) {
  DeviceInfo info;
  info.device = {DeviceType::cuda, 1};
  info.compute_capability = compute_capability;
  info.sm_count = 132;
  info.shared_memory_per_block = 232448;
  return info;
}

// ---- what a call becomes

class ApiRun : public ApiTest {};

TEST_F(ApiRun, hands_over_contiguous_tensors) {
  int stream = 0;
  const Result<BoundPlan> bound = call_.bind();
  ASSERT_TRUE(bound.ok()) << bound.status().message();
  const Status status = bound.value().run(call_.activations, call_.output, call_.workspace, &stream);
  ASSERT_TRUE(status.ok()) << status.message();

  const contract::Activations& got = fakes().activations;
  EXPECT_EQ(got.tokens, 16);
  EXPECT_EQ(got.routing_logits, call_.activations.routing_logits.data);
  EXPECT_EQ(got.routing_logits_type, contract::FloatType::f32);
  EXPECT_EQ(got.routing_logits_pitch, 256);
  EXPECT_EQ(got.hidden, call_.activations.hidden_states.data);
  EXPECT_EQ(got.hidden_pitch, 7168);
  EXPECT_EQ(got.hidden_scale, call_.activations.hidden_states_scale.data);
  EXPECT_EQ(got.hidden_scale_pitch, 16);
  EXPECT_EQ(got.output, call_.output.data);
  EXPECT_EQ(got.output_pitch, 7168);
  EXPECT_EQ(fakes().workspace, call_.workspace.data);
  EXPECT_EQ(fakes().stream, &stream);

  const contract::Weights& weights = fakes().weights;
  EXPECT_EQ(weights.routing_bias, call_.weights.routing_bias.data);
  EXPECT_EQ(weights.routing_bias_type, contract::FloatType::bf16);
  EXPECT_EQ(weights.w13, call_.weights.gemm1_weights.data);
  EXPECT_EQ(weights.w13_scale, call_.weights.gemm1_weights_scale.data);
  EXPECT_EQ(weights.w2, call_.weights.gemm2_weights.data);
  EXPECT_EQ(weights.w2_scale, call_.weights.gemm2_weights_scale.data);
  EXPECT_EQ(weights.local_expert_offset, 0);
  EXPECT_EQ(weights.routed_scaling_factor, 2.5F);
  EXPECT_FALSE(weights.gate_first);
}

TEST_F(ApiRun, accepts_pitches) {
  call_.activations.routing_logits.stride[0] = 300;
  call_.activations.hidden_states.stride[0] = 7184;
  call_.activations.hidden_states_scale.stride[0] = 20;
  call_.output.stride[0] = 7176;
  const Status status = call_.run();
  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(fakes().activations.routing_logits_pitch, 300);
  EXPECT_EQ(fakes().activations.hidden_pitch, 7184);
  EXPECT_EQ(fakes().activations.hidden_scale_pitch, 20);
  EXPECT_EQ(fakes().activations.output_pitch, 7176);
}

TEST_F(ApiRun, does_not_look_at_the_stride_of_a_single_row_or_column) {
  for (Tensor* tensor : {&call_.activations.routing_logits, &call_.activations.hidden_states, &call_.output}) {
    tensor->shape[0] = 1;
    tensor->stride[0] = -5;
  }
  call_.activations.hidden_states_scale.shape[1] = 1;
  call_.activations.hidden_states_scale.stride = {1, 77};
  const Status status = call_.run();
  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(fakes().activations.tokens, 1);
  EXPECT_EQ(fakes().activations.routing_logits_pitch, 256);
  EXPECT_EQ(fakes().activations.hidden_pitch, 7168);
  EXPECT_EQ(fakes().activations.hidden_scale_pitch, 1);
  EXPECT_EQ(fakes().activations.output_pitch, 7168);
}

TEST_F(ApiRun, accepts_bf16_logits_and_an_f32_bias) {
  call_.activations.routing_logits.dtype = DType::bfloat16;
  call_.weights.routing_bias.dtype = DType::float32;
  const Status status = call_.run();
  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(fakes().activations.routing_logits_type, contract::FloatType::bf16);
  EXPECT_EQ(fakes().weights.routing_bias_type, contract::FloatType::f32);
}

TEST_F(ApiRun, counts_an_absent_bias_as_zeros) {
  call_.weights.routing_bias = Tensor();
  const Status status = call_.run();
  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(fakes().weights.routing_bias, nullptr);
}

TEST_F(ApiRun, passes_gate_first_on) {
  call_.options.gate_first = true;
  const Status status = call_.run();
  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_TRUE(fakes().weights.gate_first);
  EXPECT_EQ(fakes().weights.gate_row(2048), 0);
}

TEST_F(ApiRun, accepts_any_expert_offset) {
  for (const std::int32_t offset : {-2147483647 - 1, -1, 224, 1000, 2147483647}) {
    call_.weights.local_expert_offset = offset;
    const Status status = call_.run();
    ASSERT_TRUE(status.ok()) << status.message();
    EXPECT_EQ(fakes().weights.local_expert_offset, offset);
  }
}

TEST_F(ApiRun, accepts_the_largest_sizes) {
  constexpr std::int64_t kMost = std::int64_t{1} << 30, kWidestPitch = std::int64_t{1} << 18;
  call_.max_tokens = kMost;
  call_.options.backend = Backend::cpu;
  call_.activations.routing_logits = Tensor::contiguous(address(6), DType::float32, {}, {kMost, 256});
  call_.activations.hidden_states = Tensor::pitched(address(8), DType::float8_e4m3, {}, kMost, kHidden, kWidestPitch);
  call_.activations.hidden_states_scale = Tensor::contiguous(address(1 << 18), DType::float32, {}, {56, kMost});
  call_.output = Tensor::contiguous(nullptr, DType::bfloat16, {}, {kMost, kHidden});
  // Everything but the output's address is accepted; there is no memory of that size to write to.
  EXPECT_EQ(call_.run().message(), "output: null data, expected the address of its first element");
}

TEST_F(ApiRun, without_tokens_writes_nothing_and_needs_no_memory) {
  const Device cpu;
  call_.activations.routing_logits = Tensor::contiguous(nullptr, DType::float32, cpu, {0, 256});
  call_.activations.hidden_states = Tensor::contiguous(nullptr, DType::float8_e4m3, cpu, {0, kHidden});
  call_.activations.hidden_states_scale = Tensor::contiguous(nullptr, DType::float32, cpu, {56, 0});
  call_.output = Tensor::contiguous(nullptr, DType::bfloat16, cpu, {0, kHidden});
  call_.workspace = {};
  const Status status = call_.run();
  EXPECT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(fakes().runs, 0);
}

TEST_F(ApiRun, without_tokens_still_refuses_a_wrong_shape) {
  call_.activations.hidden_states.shape[0] = 0;
  EXPECT_EQ(call_.run().message(),
            "routing_logits: shape [16, 256], expected [0, 256] (hidden_states is [0, 7168], a logit for each expert "
            "of the plan)");
}

TEST_F(ApiRun, needs_no_workspace_where_the_plan_needs_none) {
  fakes().workspace_bytes = 0;
  call_.workspace = {};
  const Status status = call_.run();
  EXPECT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(fakes().runs, 1);
}

TEST_F(ApiRun, leaves_the_workspace_behind_what_the_plan_needs_alone) {
  const Tensor& hidden = call_.activations.hidden_states;
  call_.workspace = {moved(hidden.data, -static_cast<std::intptr_t>(kWorkspaceBytes)), 4 * kWorkspaceBytes};
  const Status status = call_.run();
  EXPECT_TRUE(status.ok()) << status.message();
}

TEST_F(ApiRun, gives_back_what_the_backend_says) {
  fakes().run_status = Status(StatusCode::device_error, "gemm1: out of resources");
  const Status status = call_.run();
  EXPECT_EQ(status.code(), StatusCode::device_error);
  EXPECT_EQ(status.message(), "gemm1: out of resources");
}

TEST_F(ApiRun, turns_exceptions_into_a_status) {
  fakes().thrown = "no thread could be started";
  Status status = call_.run();
  EXPECT_EQ(status.code(), StatusCode::device_error);
  EXPECT_EQ(status.message(), "no thread could be started");
  fakes().thrown = "bad_alloc";
  status = call_.run();
  EXPECT_EQ(status.code(), StatusCode::out_of_memory);
  EXPECT_EQ(status.message(), "host memory");
}

// ---- which backend

class ApiBackend : public ApiTest {
 protected:
  Result<Plan> plan(const DeviceInfo& device, Backend backend) const {
    Options options;
    options.backend = backend;
    return Plan::create(Geometry(), 16, device, options);
  }
};

TEST_F(ApiBackend, automatic_is_the_first_that_runs_on_the_device) {
  EXPECT_EQ(plan(gpu(90), Backend::automatic).value().backend(), Backend::hopper);
  EXPECT_EQ(plan(gpu(89), Backend::automatic).value().backend(), Backend::portable);
  EXPECT_EQ(plan(call_.device, Backend::automatic).value().backend(), Backend::cpu);
}

TEST_F(ApiBackend, an_explicit_choice_is_kept) {
  const Plan made = plan(gpu(90), Backend::portable).value();
  EXPECT_EQ(made.backend(), Backend::portable);
  EXPECT_EQ(made.path(), "portable/fake");
  EXPECT_EQ(made.explain(), "a fake\n");
}

TEST_F(ApiBackend, automatic_says_why_it_passed_over_faster_ones_for_the_device) {
  EXPECT_EQ(plan(gpu(89), Backend::automatic).value().explain(), "a fake\nnot hopper: it needs sm_90\n");
  EXPECT_EQ(plan(gpu(90), Backend::automatic).value().explain(), "a fake\n");
  EXPECT_EQ(plan(call_.device, Backend::automatic).value().explain(), "a fake\n");
}

TEST_F(ApiBackend, a_choice_that_cannot_run_says_why) {
  const Status hopper = plan(gpu(89), Backend::hopper).status();
  EXPECT_EQ(hopper.code(), StatusCode::unsupported);
  EXPECT_EQ(hopper.message(), "options.backend: hopper can't run on cuda:1: it needs sm_90");
  const Status cpu = plan(gpu(90), Backend::cpu).status();
  EXPECT_EQ(cpu.code(), StatusCode::unsupported);
  EXPECT_EQ(cpu.message(), "options.backend: cpu can't run on cuda:1: it is for the CPU");
  EXPECT_EQ(fakes().plans, 0);
}

TEST_F(ApiBackend, a_device_that_none_runs_on_is_told_of_each) {
  const Status status = plan(gpu(75), Backend::automatic).status();
  EXPECT_EQ(status.code(), StatusCode::unsupported);
  EXPECT_EQ(
      status.message(),
      "device: no backend of this build runs on cuda:1 (hopper: it needs sm_90; portable: it needs sm_80 or later; "
      "cpu: it is for the CPU)");
}

TEST_F(ApiBackend, gets_the_whole_request) {
  DeviceInfo device = gpu(90);
  Geometry geometry;
  geometry.experts = 64;
  geometry.hidden = 256;
  geometry.intermediate = 128;
  geometry.local_experts = 16;
  geometry.top_k = 6;
  geometry.n_group = 4;
  geometry.topk_group = 2;
  Options options;
  options.max_sms = 37;
  options.max_threads = 3;
  options.policy = Policy::trtllm;
  options.intermediate_type = IntermediateType::e4m3x2;
  options.no_trtllm_gemm1 = 1;
  options.mma_gemm2_m_threshold = 5;
  options.trtllm_gemm2_m_threshold = 6;
  ASSERT_TRUE(Plan::create(geometry, 99, device, options).ok());
  const api::PlanRequest& got = fakes().request;
  EXPECT_EQ(got.geometry, (contract::Geometry{.hidden = 256,
                                              .intermediate = 128,
                                              .experts = 64,
                                              .local_experts = 16,
                                              .top_k = 6,
                                              .n_group = 4,
                                              .topk_group = 2}));
  EXPECT_EQ(got.max_tokens, 99);
  EXPECT_EQ(got.device.device, device.device);
  EXPECT_EQ(got.device.sm_count, 132);
  EXPECT_EQ(got.options.max_sms, 37);
  EXPECT_EQ(got.options.max_threads, 3);
  EXPECT_EQ(got.options.policy, Policy::trtllm);
  EXPECT_EQ(got.options.intermediate_type, IntermediateType::e4m3x2);
  EXPECT_EQ(got.options.no_trtllm_gemm1, 1);
  EXPECT_EQ(got.options.no_trtllm_gemm2, 0);
  EXPECT_EQ(got.options.mma_gemm2_m_threshold, 5);
  EXPECT_EQ(got.options.trtllm_gemm2_m_threshold, 6);
}

TEST_F(ApiBackend, tells_the_workspace_it_needs) {
  const WorkspaceNeed need = call_.plan().value().workspace();
  EXPECT_EQ(need.bytes, kWorkspaceBytes);
  EXPECT_EQ(need.alignment, 256U);
  EXPECT_EQ(need.init, WorkspaceInit::zeroed_once);
}

// ---- as values

class ApiPlan : public ApiTest {};

TEST_F(ApiPlan, that_prunes_says_so_in_its_path_and_its_reasons) {
  const Plan exact = call_.plan().value();
  EXPECT_EQ(exact.path().find("PRUNED"), std::string::npos);
  EXPECT_EQ(exact.explain().find("PRUNED"), std::string::npos);
  call_.options.pruning = {3, 0.0625F};
  const Plan pruned = call_.plan().value();
  EXPECT_EQ(pruned.path(), exact.path() + " PRUNED");
  EXPECT_EQ(pruned.explain(), exact.explain() +
                                  "PRUNED, not exact: local picks with less than 0.0625 of the weights of the token's "
                                  "picks are dropped; of local picks stay the 3 of largest weight\n");
}

TEST_F(ApiPlan, copies_share_what_was_decided) {
  const Plan first = call_.plan().value();
  const Plan second = first;  // NOLINT(performance-unnecessary-copy-initialization): the copy is the point
  EXPECT_EQ(&first.path(), &second.path());
  EXPECT_EQ(fakes().plans, 1);
}

TEST_F(ApiPlan, is_whole_after_it_was_moved_from) {
  Plan first = call_.plan().value();
  const Plan second = std::move(first);    // NOLINT(performance-move-const-arg): a copy, as promised
  EXPECT_EQ(first.path(), second.path());  // NOLINT(bugprone-use-after-move): the promise
}

TEST_F(ApiPlan, may_go_before_what_it_bound) {
  std::optional<Plan> plan = call_.plan().value();
  const Result<BoundPlan> bound = plan->bind(call_.weights);
  plan.reset();
  const Status status = run(bound, call_);
  EXPECT_TRUE(status.ok()) << status.message();
}

TEST_F(ApiPlan, binds_several_sets_of_weights) {
  const Plan plan = call_.plan().value();
  const Result<BoundPlan> first = plan.bind(call_.weights);
  call_.weights.gemm1_weights.data = address(10);
  const Result<BoundPlan> second = plan.bind(call_.weights);
  ASSERT_TRUE(run(first, call_).ok());
  EXPECT_EQ(fakes().weights.w13, address(2));
  ASSERT_TRUE(run(second, call_).ok());
  EXPECT_EQ(fakes().weights.w13, address(10));
}

TEST_F(ApiPlan, keeps_nothing_of_a_call) {
  const Result<BoundPlan> bound = call_.bind();
  ASSERT_TRUE(run(bound, call_).ok());
  Call other;
  ASSERT_TRUE(run(bound, other).ok());
  EXPECT_EQ(fakes().activations.output, other.output.data);
  EXPECT_EQ(fakes().workspace, other.workspace.data);
}

TEST_F(ApiPlan, bound_is_shared_by_threads) {
  constexpr int kThreads = 4;
  constexpr int kCalls = 200;
  const Result<BoundPlan> bound = call_.bind();
  ASSERT_TRUE(bound.ok()) << bound.status().message();
  std::vector<int> accepted(kThreads);
  std::vector<int> refused(kThreads);
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  for (std::size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      const BoundPlan mine = bound.value();  // NOLINT(performance-unnecessary-copy-initialization): each its own
      Call call;
      Call wrong;
      wrong.output.dtype = DType::int32;
      for (int i = 0; i < kCalls; ++i) {
        accepted[t] += mine.run(call.activations, call.output, call.workspace).ok() ? 1 : 0;
        refused[t] += mine.run(wrong.activations, wrong.output, wrong.workspace).message() ==
                              "output: type int32, expected bfloat16 or float32"
                          ? 1
                          : 0;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(accepted, std::vector<int>(kThreads, kCalls));
  EXPECT_EQ(refused, std::vector<int>(kThreads, kCalls));
  EXPECT_EQ(fakes().runs, kThreads * kCalls);
}

}  // namespace
}  // namespace blockmoe::test
