// What the operator refuses before it launches anything: through the public API, each argument in turn in memory that kernels
// of its GPU can't use.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api_calls.hpp"
#include "blockmoe/blockmoe.hpp"
#include "gpu_test.hpp"
#include "layer.hpp"

namespace blockmoe::test {
namespace {

constexpr std::uint16_t kPoison = 0xffff;
constexpr Device kGpu{DeviceType::cuda, 0};

// A small call that runs as it stands.
struct Call {
  Layer layer = draw_layer(options());
  DeviceCall device = DeviceCall(layer);
  Geometry geometry;
  DeviceInfo info = query_device(kGpu).value();
  Weights weights;
  Activations activations;
  DeviceArray<std::int32_t> ids = DeviceArray<std::int32_t>(12);  // -1 all
  DeviceArray<float> id_weights = DeviceArray<float>(12);
  PreroutedActivations prerouted;
  Tensor output;

  Call() {
    using enum DType;
    const contract::Geometry& g = layer.geometry();
    const std::int64_t tokens = layer.tokens();
    const std::int64_t local = g.local_experts;
    geometry.experts = g.experts;
    geometry.hidden = g.hidden;
    geometry.intermediate = g.intermediate;
    geometry.local_experts = g.local_experts;
    geometry.top_k = g.top_k;
    geometry.n_group = g.n_group;
    geometry.topk_group = g.topk_group;
    const auto place = [](const void* data, DType type, std::initializer_list<std::int64_t> shape) {
      return Tensor::contiguous(data, type, kGpu, shape);
    };
    weights.routing_bias = place(device.weights.routing_bias, bfloat16, {g.experts});
    weights.gemm1_weights = place(device.weights.w13, float8_e4m3, {local, 2 * g.intermediate, g.hidden});
    weights.gemm1_weights_scale =
        place(device.weights.w13_scale, float32, {local, 2 * g.intermediate_blocks(), g.hidden_blocks()});
    weights.gemm2_weights = place(device.weights.w2, float8_e4m3, {local, g.hidden, g.intermediate});
    weights.gemm2_weights_scale =
        place(device.weights.w2_scale, float32, {local, g.hidden_blocks(), g.intermediate_blocks()});
    activations.routing_logits = place(device.activations.routing_logits, float32, {tokens, g.experts});
    activations.hidden_states = place(device.activations.hidden, float8_e4m3, {tokens, g.hidden});
    activations.hidden_states_scale = place(device.activations.hidden_scale, float32, {g.hidden_blocks(), tokens});
    prerouted.topk_ids = place(ids.get(), int32, {tokens, g.top_k});
    prerouted.topk_weights = place(id_weights.get(), float32, {tokens, g.top_k});
    prerouted.hidden_states = activations.hidden_states;
    prerouted.hidden_states_scale = activations.hidden_states_scale;
    output = place(device.activations.output, bfloat16, {tokens, g.hidden});
  }

  Result<Plan> plan() const { return Plan::create(geometry, layer.tokens(), info); }

  bool output_is_untouched() const {
    const std::vector<std::uint16_t> elements = device.output();
    return std::all_of(elements.begin(), elements.end(), [](std::uint16_t x) { return x == kPoison; });
  }

 private:
  static LayerOptions options() {
    LayerOptions options;
    options.geometry = {256, 128, 8, 8, 2, 1, 1};
    options.tokens = 6;
    return options;
  }
};

struct WeightArgument {
  const char* name;
  Tensor Weights::* tensor;
};
constexpr WeightArgument kWeightArguments[] = {
    {"routing_bias", &Weights::routing_bias},
    {"gemm1_weights", &Weights::gemm1_weights},
    {"gemm1_weights_scale", &Weights::gemm1_weights_scale},
    {"gemm2_weights", &Weights::gemm2_weights},
    {"gemm2_weights_scale", &Weights::gemm2_weights_scale},
};

struct ActivationArgument {
  const char* name;
  Tensor Activations::* tensor;
};
constexpr ActivationArgument kActivationArguments[] = {
    {"routing_logits", &Activations::routing_logits},
    {"hidden_states", &Activations::hidden_states},
    {"hidden_states_scale", &Activations::hidden_states_scale},
};

struct PreroutedArgument {
  const char* name;
  Tensor PreroutedActivations::* tensor;
};
constexpr PreroutedArgument kPreroutedArguments[] = {
    {"topk_ids", &PreroutedActivations::topk_ids},
    {"topk_weights", &PreroutedActivations::topk_weights},
    {"hidden_states", &PreroutedActivations::hidden_states},
    {"hidden_states_scale", &PreroutedActivations::hidden_states_scale},
};

// Memory that is not the GPU's, with a home that frees it.
struct Elsewhere {
  std::string says;
  std::shared_ptr<void> memory;
};

class MemoryTest : public GpuTest {
 protected:
  void SetUp() override {
    GpuTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    call_.emplace();
    const Result<Plan> plan = call_->plan();
    ASSERT_TRUE(plan.ok()) << plan.status().message();
    plan_.emplace(plan.value());
    need_ = plan_->workspace();
    workspace_ = DeviceArray<std::uint8_t>(need_.bytes);
    make_elsewhere();
  }

  Status bind(const Weights& weights) const { return plan_->bind(weights).status(); }

  Status run(const Activations& activations, const Tensor& output, const Workspace& workspace) const {
    const Result<BoundPlan> bound = plan_->bind(call_->weights);
    return bound.ok() ? bound.value().run(activations, output, workspace) : bound.status();
  }
  Status run(const Activations& activations) const { return run(activations, call_->output, workspace()); }
  Status run(const Tensor& output) const { return run(call_->activations, output, workspace()); }
  Status run(const Workspace& workspace) const { return run(call_->activations, call_->output, workspace); }

  Status run(const PreroutedActivations& activations) const {
    const Result<BoundPlan> bound = plan_->bind(call_->weights);
    return bound.ok() ? bound.value().run_prerouted(activations, call_->output, workspace()) : bound.status();
  }

  Workspace workspace() const { return {workspace_.get(), need_.bytes}; }

  // `attempt` is refused with "<argument>: ...<says>...", launches nothing and writes nothing.
  template <typename Attempt>
  void expect_refused(std::string_view argument, std::string_view says, const Attempt& attempt) const {
    const long launches = api_calls().launches;
    const Status status = attempt();
    EXPECT_EQ(StatusCode::invalid_argument, status.code()) << argument << ": " << says;
    EXPECT_EQ(0U, status.message().rfind(std::string(argument) + ": ", 0)) << status.message();
    EXPECT_NE(std::string::npos, status.message().find(says)) << status.message() << ", expected " << says;
    EXPECT_EQ(launches, api_calls().launches) << status.message();
    EXPECT_TRUE(call_->output_is_untouched()) << status.message();
  }

  // The tensor in each kind of wrong memory, as attempt(tensor).
  template <typename Attempt>
  void expect_refused_elsewhere(std::string_view argument, const Tensor& good, const Attempt& attempt) const {
    const auto at = [&](void* data) {
      Tensor moved = good;
      moved.data = data;
      return moved;
    };
    expect_refused(argument, "null data", [&] { return attempt(at(nullptr)); });
    expect_refused(argument, "address 0x", [&] { return attempt(at(static_cast<char*>(good.data) + 1)); });
    for (const Elsewhere& other : elsewhere_) {
      expect_refused(argument, other.says, [&] { return attempt(at(other.memory.get())); });
    }
    Tensor of_another_device = good;
    of_another_device.device.index = 1;
    expect_refused(argument, "device cuda:1, expected cuda:0", [&] { return attempt(of_another_device); });
  }

  std::optional<Call> call_;
  std::optional<Plan> plan_;
  WorkspaceNeed need_;
  DeviceArray<std::uint8_t> workspace_;
  std::vector<Elsewhere> elsewhere_;

 private:
  // Each as large as the largest argument, and as well aligned as any asks for.
  void make_elsewhere() {
    const std::size_t bytes = std::max<std::size_t>(need_.bytes, call_->layer.w13.size());
    elsewhere_.push_back({"host memory, expected memory of cuda:0",
                          std::shared_ptr<void>(std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096), std::free)});
    void* pinned = nullptr;
    ASSERT_EQ(cudaSuccess, cudaMallocHost(&pinned, bytes));
    elsewhere_.push_back({"host memory, expected memory of cuda:0", std::shared_ptr<void>(pinned, cudaFreeHost)});
    int gpus = 0;
    ASSERT_EQ(cudaSuccess, cudaGetDeviceCount(&gpus));
    if (gpus < 2) return;
    void* other = nullptr;
    ASSERT_EQ(cudaSuccess, cudaSetDevice(1));
    ASSERT_EQ(cudaSuccess, cudaMalloc(&other, bytes));
    elsewhere_.push_back({"memory of cuda:1, expected memory of cuda:0", std::shared_ptr<void>(other, cudaFree)});
    ASSERT_EQ(cudaSuccess, cudaSetDevice(0));
  }
};

TEST_F(MemoryTest, a_call_in_memory_of_its_gpu_runs) {
  const long launches = api_calls().launches;
  const Status status = run(call_->activations);
  EXPECT_TRUE(status.ok()) << status.message();
  EXPECT_LT(launches, api_calls().launches);
  EXPECT_FALSE(call_->output_is_untouched());
}

TEST_F(MemoryTest, a_prerouted_call_in_memory_of_its_gpu_runs) {
  const long launches = api_calls().launches;
  const Status status = run(call_->prerouted);
  EXPECT_TRUE(status.ok()) << status.message();
  EXPECT_LT(launches, api_calls().launches);
  EXPECT_FALSE(call_->output_is_untouched());
}

TEST_F(MemoryTest, bind_refuses_weights_elsewhere) {
  for (const WeightArgument& argument : kWeightArguments) {
    expect_refused_elsewhere(argument.name, call_->weights.*argument.tensor, [&](const Tensor& tensor) {
      Weights weights = call_->weights;
      weights.*argument.tensor = tensor;
      return bind(weights);
    });
  }
}

TEST_F(MemoryTest, run_refuses_activations_elsewhere) {
  for (const ActivationArgument& argument : kActivationArguments) {
    expect_refused_elsewhere(argument.name, call_->activations.*argument.tensor, [&](const Tensor& tensor) {
      Activations activations = call_->activations;
      activations.*argument.tensor = tensor;
      return run(activations);
    });
  }
}

TEST_F(MemoryTest, run_prerouted_refuses_activations_elsewhere) {
  for (const PreroutedArgument& argument : kPreroutedArguments) {
    expect_refused_elsewhere(argument.name, call_->prerouted.*argument.tensor, [&](const Tensor& tensor) {
      PreroutedActivations activations = call_->prerouted;
      activations.*argument.tensor = tensor;
      return run(activations);
    });
  }
}

TEST_F(MemoryTest, run_refuses_an_output_elsewhere) {
  expect_refused_elsewhere("output", call_->output, [&](const Tensor& tensor) { return run(tensor); });
}

TEST_F(MemoryTest, run_refuses_a_workspace_elsewhere_or_too_small) {
  const auto attempt = [&](void* data, std::size_t bytes) { return [=, this] { return run(Workspace{data, bytes}); }; };
  expect_refused("workspace", "null, expected ", attempt(nullptr, need_.bytes));
  expect_refused("workspace", "bytes, expected ", attempt(workspace_.get(), need_.bytes - 1));
  expect_refused("workspace", "address 0x", attempt(workspace_.get() + 16, need_.bytes));
  for (const Elsewhere& other : elsewhere_) {
    expect_refused("workspace", other.says, attempt(other.memory.get(), need_.bytes));
  }
}

TEST_F(MemoryTest, bind_refuses_a_gpu_that_is_less_than_the_plan_was_made_for) {
  call_->info.sm_count += 1;
  const Result<Plan> plan = call_->plan();
  ASSERT_TRUE(plan.ok()) << plan.status().message();
  expect_refused("device", "the plan was made for that", [&] { return plan.value().bind(call_->weights).status(); });
}

}  // namespace
}  // namespace blockmoe::test
