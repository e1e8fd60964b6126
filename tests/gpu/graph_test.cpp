// Calls under graphs, on streams and from threads, through the public API, on every backend of this GPU.
#include <cuda_runtime.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#include "api_calls.hpp"
#include "count_differences.hpp"
#include "device_array.h"
#include "given_picks.hpp"
#include "gpu_test.hpp"
#include "hold_multiprocessors.hpp"
#include "measure/device_inputs.hpp"
#include "measure/gpu_call.hpp"
#include "move_memory.hpp"
#include "workload/inputs.hpp"

namespace blockmoe::test {
namespace {

using measure::GpuCall;
using Output = std::vector<std::uint16_t>;

constexpr contract::Geometry kGeometry{384, 256, 32, 16, 4, 4, 2};

workload::Inputs draw(std::int64_t tokens, std::uint64_t seed, const contract::Geometry& geometry = kGeometry) {
  workload::Workload row;
  row.tokens = tokens;
  row.geometry = geometry;
  row.local_expert_offset = 8;
  row.seed = seed;
  row.weights_seed = seed;
  workload::InputOptions options;
  options.dataset_root.clear();
  auto inputs = workload::InputMaker(options).make(row);
  EXPECT_TRUE(inputs.ok()) << inputs.status().message();
  return std::move(inputs).value();
}

GpuCall call_of(Backend backend, std::int64_t tokens, std::uint64_t seed,
                const contract::Geometry& geometry = kGeometry) {
  Options options;
  options.backend = backend;
  auto call = GpuCall::create(draw(tokens, seed, geometry), query_device({DeviceType::cuda, 0}).value(), options);
  EXPECT_TRUE(call.ok()) << call.status().message();
  return std::move(call).value();
}

// The same call with the picks that its routing makes, as its caller's.
class PreroutedCall {
 public:
  PreroutedCall(Backend backend, std::int64_t tokens, std::uint64_t seed)
      : PreroutedCall(call_of(backend, tokens, seed), draw(tokens, seed)) {}

  const GpuCall& routed() const { return routed_; }

  Status enqueue(void* stream) const {
    const Activations& given = routed_.inputs().public_activations;
    const Device device = given.hidden_states.device;
    const std::int64_t tokens = given.hidden_states.dim(0);
    const std::int64_t picks = static_cast<std::int64_t>(experts_.size()) / tokens;
    PreroutedActivations activations;
    activations.topk_ids = Tensor::contiguous(experts_.get(), DType::int32, device, {tokens, picks});
    activations.topk_weights = Tensor::contiguous(weights_.get(), DType::float32, device, {tokens, picks});
    activations.hidden_states = given.hidden_states;
    activations.hidden_states_scale = given.hidden_states_scale;
    const Tensor output =
        Tensor::contiguous(routed_.activations().output, DType::bfloat16, device, {tokens, given.hidden_states.dim(1)});
    return bound_.run_prerouted(activations, output, {routed_.workspace(), routed_.plan().workspace().bytes}, stream);
  }
  Result<Output> fetch_output() const { return routed_.fetch_output(); }
  Status poison_output() const { return routed_.poison_output(); }

  // This call's picks take the place of the other's.
  void copy_picks_to(const PreroutedCall& other) const {
    const std::size_t count = experts_.size();
    ASSERT_EQ(count, other.experts_.size());
    ASSERT_EQ(cudaSuccess,
              cudaMemcpy(other.experts_.get(), experts_.get(), count * sizeof(std::int32_t), cudaMemcpyDeviceToDevice));
    ASSERT_EQ(cudaSuccess,
              cudaMemcpy(other.weights_.get(), weights_.get(), count * sizeof(float), cudaMemcpyDeviceToDevice));
  }

 private:
  PreroutedCall(GpuCall routed, const workload::Inputs& inputs)
      : PreroutedCall(std::move(routed), picks_of_routing(inputs.geometry, inputs.weights, inputs.activations)) {}
  PreroutedCall(GpuCall routed, const GivenPicks& picks)
      : routed_(std::move(routed)),
        bound_(routed_.plan().bind(routed_.inputs().public_weights).value()),
        experts_(picks.experts),
        weights_(picks.weights) {}

  GpuCall routed_;
  BoundPlan bound_;
  DeviceArray<std::int32_t> experts_;
  DeviceArray<float> weights_;
};

template <typename Call>
Output output_of(const Call& call) {
  auto output = call.fetch_output();
  EXPECT_TRUE(output.ok()) << output.status().message();
  return std::move(output).value();
}

template <typename Call>
Output run(const Call& call, cudaStream_t stream = nullptr) {
  EXPECT_TRUE(call.poison_output().ok());
  const Status status = call.enqueue(stream);
  EXPECT_TRUE(status.ok()) << status.message();
  return output_of(call);
}

std::size_t bytes_of(const Tensor& tensor) {
  std::size_t count = tensor.rank == 0 ? 0 : 1;
  for (int axis = 0; axis < tensor.rank; ++axis) count *= static_cast<std::size_t>(tensor.dim(axis));
  return count * (tensor.dtype == DType::float32 ? 4 : tensor.dtype == DType::bfloat16 ? 2 : 1);
}

// Every input of `to` gets the contents of `from`; the addresses stay.
void copy_contents(const GpuCall& from, const GpuCall& to) {
  const auto copy = [](const Tensor& source, const Tensor& destination) {
    ASSERT_EQ(bytes_of(source), bytes_of(destination));
    ASSERT_EQ(cudaSuccess, cudaMemcpy(destination.data, source.data, bytes_of(source), cudaMemcpyDeviceToDevice));
  };
  const Weights &w = from.inputs().public_weights, &x = to.inputs().public_weights;
  const Activations &a = from.inputs().public_activations, &b = to.inputs().public_activations;
  copy(w.routing_bias, x.routing_bias);
  copy(w.gemm1_weights, x.gemm1_weights);
  copy(w.gemm1_weights_scale, x.gemm1_weights_scale);
  copy(w.gemm2_weights, x.gemm2_weights);
  copy(w.gemm2_weights_scale, x.gemm2_weights_scale);
  copy(a.routing_logits, b.routing_logits);
  copy(a.hidden_states, b.hidden_states);
  copy(a.hidden_states_scale, b.hidden_states_scale);
}

// The output poisoned, then a replay. Copies and poison are in the default stream, which the graph's does not wait for.
template <typename Call>
Output replay(const Call& call, cudaGraphExec_t graph, cudaStream_t stream) {
  EXPECT_TRUE(call.poison_output().ok());
  EXPECT_EQ(cudaSuccess, cudaDeviceSynchronize());
  EXPECT_EQ(cudaSuccess, cudaGraphLaunch(graph, stream));
  return output_of(call);
}

template <auto kDestroy>
struct Destroy {
  template <typename Handle>
  void operator()(Handle handle) const {
    EXPECT_EQ(cudaSuccess, kDestroy(handle));
  }
};
using Stream = std::unique_ptr<std::remove_pointer_t<cudaStream_t>, Destroy<cudaStreamDestroy>>;
using Graph = std::unique_ptr<std::remove_pointer_t<cudaGraph_t>, Destroy<cudaGraphDestroy>>;
using GraphExec = std::unique_ptr<std::remove_pointer_t<cudaGraphExec_t>, Destroy<cudaGraphExecDestroy>>;

Stream make_stream() {
  cudaStream_t stream = nullptr;
  EXPECT_EQ(cudaSuccess, cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  return Stream(stream);
}

GraphExec instantiate(cudaGraph_t graph) {
  cudaGraphExec_t exec = nullptr;
  EXPECT_EQ(cudaSuccess, cudaGraphInstantiate(&exec, graph, 0));
  return GraphExec(exec);
}

// Global mode: a wait, an allocation or a copy by any thread would end the capture with an error.
template <typename Call>
GraphExec capture(const Call& call, cudaStream_t stream) {
  EXPECT_EQ(cudaSuccess, cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
  const Status status = call.enqueue(stream);
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaSuccess, cudaStreamEndCapture(stream, &graph));
  EXPECT_TRUE(status.ok()) << status.message();
  const Graph owner(graph);
  return instantiate(graph);
}

class GraphTest : public GpuTest {
 protected:
  // Runs `body` for each backend that the GPU here has.
  template <typename Body>
  void for_each_backend(Body body) {
    int backends = 0;
    for (const Backend backend : {Backend::portable, Backend::hopper}) {
      Options options;
      options.backend = backend;
      if (!Plan::create(Geometry(), 1, query_device({DeviceType::cuda, 0}).value(), options).ok()) continue;
      SCOPED_TRACE(backend == Backend::hopper ? "hopper" : "portable");
      body(backend);
      ++backends;
    }
    EXPECT_GT(backends, 0);
  }
};

TEST_F(GraphTest, a_replay_after_every_input_changed_equals_a_fresh_call) {
  for_each_backend([](Backend backend) {
    for (const std::int64_t tokens : {1, 20, 300}) {
      const GpuCall first = call_of(backend, tokens, 1);
      const GpuCall second = call_of(backend, tokens, 2);
      const Output of_first = run(first);
      const Output of_second = run(second);
      EXPECT_NE(of_first, of_second);
      const Stream stream = make_stream();
      const GraphExec graph = capture(first, stream.get());
      EXPECT_EQ(replay(first, graph.get(), stream.get()), of_first);
      copy_contents(second, first);
      EXPECT_EQ(replay(first, graph.get(), stream.get()), of_second);
    }
  });
}

TEST_F(GraphTest, a_replay_of_a_prerouted_call_after_every_input_changed_equals_a_fresh_call) {
  for_each_backend([](Backend backend) {
    for (const std::int64_t tokens : {1, 80, 300}) {
      const PreroutedCall first(backend, tokens, 1);
      const PreroutedCall second(backend, tokens, 2);
      const Output of_first = run(first);
      const Output of_second = run(second);
      EXPECT_EQ(of_first, run(first.routed()));
      EXPECT_NE(of_first, of_second);
      const Stream stream = make_stream();
      const GraphExec graph = capture(first, stream.get());
      EXPECT_EQ(replay(first, graph.get(), stream.get()), of_first);
      copy_contents(second.routed(), first.routed());
      second.copy_picks_to(first);
      EXPECT_EQ(replay(first, graph.get(), stream.get()), of_second);
    }
  });
}

TEST_F(GraphTest, a_thousand_runs_give_the_same_bits) {
  for_each_backend([](Backend backend) {
    const GpuCall call = call_of(backend, 130, 3);
    const Output expected = run(call);
    const Stream stream = make_stream();
    const GraphExec graph = capture(call, stream.get());
    for (int i = 0; i < 1000; ++i) {
      ASSERT_EQ(cudaSuccess, cudaGraphLaunch(graph.get(), stream.get()));
      ASSERT_EQ(output_of(call), expected) << "run " << i;
    }
  });
}

// With this layer, each shape of the Hopper path runs at one of these T.
constexpr contract::Geometry kWideLayer{7168, 2048, 32, 8, 4, 4, 2};
constexpr std::int64_t kEveryShape[] = {3, 20, 130, 400, 700, 2000};

// Loads and copies take longer and come in other orders than alone; nothing may depend on that.
TEST_F(GraphTest, a_thousand_runs_beside_another_kernel_that_moves_memory_give_the_same_bits) {
  constexpr std::size_t kBytes = std::size_t{256} << 20;
  const DeviceArray<std::uint8_t> from(kBytes), to(kBytes);
  for_each_backend([&](Backend backend) {
    for (const std::int64_t tokens : kEveryShape) {
      const GpuCall call = call_of(backend, tokens, 9, kWideLayer);
      const DeviceArray<std::uint16_t> expected(run(call));
      DeviceArray<std::uint32_t> differences(1);
      differences.fill(0);
      const Stream stream = make_stream(), beside = make_stream();
      const GraphExec graph = capture(call, stream.get());
      const auto* output = static_cast<const std::uint32_t*>(call.activations().output);
      for (int i = 0; i < 1000; ++i) {
        // The poison comes in another stream, and not before the last run's output was compared.
        ASSERT_EQ(cudaSuccess, cudaStreamSynchronize(stream.get()));
        EXPECT_TRUE(call.poison_output().ok());
        ASSERT_EQ(cudaSuccess, cudaDeviceSynchronize());
        launch_move_memory(to.get(), from.get(), kBytes, 4, beside.get());
        ASSERT_EQ(cudaSuccess, cudaGraphLaunch(graph.get(), stream.get()));
        launch_count_differences(output, reinterpret_cast<const std::uint32_t*>(expected.get()), expected.size() / 2,
                                 differences.get(), stream.get());
        ASSERT_EQ(cudaSuccess, cudaGetLastError());
      }
      ASSERT_EQ(cudaSuccess, cudaDeviceSynchronize());
      EXPECT_EQ(differences.host().front(), 0u) << tokens << " tokens";
    }
  });
}

// Until everything in the stream has ended; false where that takes too long.
bool ends(cudaStream_t stream) {
  constexpr std::chrono::seconds kLongest{60};
  const auto start = std::chrono::steady_clock::now();
  cudaError_t state = cudaStreamQuery(stream);
  while (state == cudaErrorNotReady && std::chrono::steady_clock::now() - start < kLongest) {
    std::this_thread::yield();
    state = cudaStreamQuery(stream);
  }
  return state == cudaSuccess;
}

// Whoever waits in a call waits for CTAs that run, never for one that has yet to find a multiprocessor.
TEST_F(GraphTest, a_call_ends_with_the_same_bits_while_others_hold_multiprocessors) {
  int multiprocessors = 0;
  ASSERT_EQ(cudaSuccess, cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, 0));
  for_each_backend([&](Backend backend) {
    for (const std::int64_t tokens : kEveryShape) {
      const GpuCall call = call_of(backend, tokens, 10, kWideLayer);
      const Output expected = run(call);
      const Stream stream = make_stream();
      const GraphExec graph = capture(call, stream.get());
      EXPECT_EQ(replay(call, graph.get(), stream.get()), expected);
      for (const int held : {multiprocessors / 2, multiprocessors - 1}) {
        for (const bool replayed : {false, true}) {
          SCOPED_TRACE(testing::Message() << tokens << " tokens, " << held << " of " << multiprocessors
                                          << " multiprocessors held, " << (replayed ? "replayed" : "launched"));
          EXPECT_TRUE(call.poison_output().ok());
          ASSERT_EQ(cudaSuccess, cudaDeviceSynchronize());
          {
            const HeldMultiprocessors others(held);
            if (replayed) {
              EXPECT_EQ(cudaSuccess, cudaGraphLaunch(graph.get(), stream.get()));
            } else {
              EXPECT_TRUE(call.enqueue(stream.get()).ok());
            }
            ASSERT_TRUE(ends(stream.get()));
          }
          ASSERT_EQ(output_of(call), expected);
        }
      }
    }
  });
}

// As `bench --sweep` makes its calls.
TEST_F(GraphTest, calls_of_the_first_tokens_on_weights_that_are_there_equal_calls_alone) {
  const DeviceInfo device = query_device({DeviceType::cuda, 0}).value();
  const workload::Inputs whole = draw(300, 11);
  const measure::DeviceInputs placed = measure::copy_to_device(whole, 0).value();
  for_each_backend([&](Backend backend) {
    Options options;
    options.backend = backend;
    for (const std::int64_t tokens : {1, 77, 300}) {
      const workload::Inputs first = workload::first_tokens(whole, tokens).value();
      const GpuCall there =
          GpuCall::create(first, measure::copy_activations(first, placed, 0).value(), device, options).value();
      EXPECT_EQ(there.inputs().weights.w13, placed.weights.w13);
      EXPECT_EQ(run(there), run(GpuCall::create(first, device, options).value())) << tokens << " tokens";
    }
  });
}

TEST_F(GraphTest, two_plans_on_two_streams_from_two_threads_share_nothing) {
  for_each_backend([](Backend backend) {
    const GpuCall calls[] = {call_of(backend, 77, 4), call_of(backend, 210, 5)};
    const Output expected[] = {run(calls[0]), run(calls[1])};
    Output found[2];
    std::vector<std::thread> threads;
    for (int i = 0; i < 2; ++i) {
      EXPECT_TRUE(calls[i].poison_output().ok());
      threads.emplace_back([&, i] {
        const Stream stream = make_stream();
        for (int run = 0; run < 200; ++run) {
          const Status status = calls[i].enqueue(stream.get());
          EXPECT_TRUE(status.ok()) << status.message();
        }
        EXPECT_EQ(cudaSuccess, cudaStreamSynchronize(stream.get()));
        found[i] = output_of(calls[i]);
      });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(found[0], expected[0]);
    EXPECT_EQ(found[1], expected[1]);
  });
}

TEST_F(GraphTest, a_call_runs_in_the_body_of_a_conditional_node) {
  for_each_backend([](Backend backend) {
    const GpuCall call = call_of(backend, 50, 6);
    const Output expected = run(call);
    for (const unsigned taken : {1u, 0u}) {
      cudaGraph_t raw = nullptr;
      ASSERT_EQ(cudaSuccess, cudaGraphCreate(&raw, 0));
      const Graph graph(raw);
      cudaGraphConditionalHandle handle = 0;
      ASSERT_EQ(cudaSuccess, cudaGraphConditionalHandleCreate(&handle, raw, taken, cudaGraphCondAssignDefault));
      cudaGraphNodeParams parameters = {};
      parameters.type = cudaGraphNodeTypeConditional;
      parameters.conditional.handle = handle;
      parameters.conditional.type = cudaGraphCondTypeIf;
      parameters.conditional.size = 1;
      cudaGraphNode_t node = nullptr;
      ASSERT_EQ(cudaSuccess, cudaGraphAddNode(&node, raw, nullptr, nullptr, 0, &parameters));
      const cudaGraph_t body = parameters.conditional.phGraph_out[0];

      const Stream stream = make_stream();
      ASSERT_EQ(cudaSuccess,
                cudaStreamBeginCaptureToGraph(stream.get(), body, nullptr, nullptr, 0, cudaStreamCaptureModeGlobal));
      const Status status = call.enqueue(stream.get());
      cudaGraph_t captured = nullptr;
      ASSERT_EQ(cudaSuccess, cudaStreamEndCapture(stream.get(), &captured));
      ASSERT_TRUE(status.ok()) << status.message();

      const GraphExec exec = instantiate(raw);
      EXPECT_EQ(replay(call, exec.get(), stream.get()), taken == 1 ? expected : Output(expected.size(), 0xffff));
    }
  });
}

template <typename Call>
void expect_only_launches(const Call& call) {
  const ApiCalls before = api_calls();
  const Status status = call.enqueue(nullptr);
  const ApiCalls after = api_calls();
  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_GT(after.launches, before.launches);
  EXPECT_EQ(after.waits, before.waits);
  EXPECT_EQ(after.memory, before.memory);
  EXPECT_EQ(cudaSuccess, cudaDeviceSynchronize());
  EXPECT_GT(api_calls().waits, before.waits);  // the count counts
}

TEST_F(GraphTest, a_call_only_launches) {
  for_each_backend([](Backend backend) { expect_only_launches(call_of(backend, 64, 7)); });
}

TEST_F(GraphTest, a_prerouted_call_only_launches) {
  for_each_backend([](Backend backend) { expect_only_launches(PreroutedCall(backend, 64, 7)); });
}

}  // namespace
}  // namespace blockmoe::test
