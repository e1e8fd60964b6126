// timing.cu: see timing.hpp.
#include "measure/timing.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <thread>
#include <utility>

#include "measure/cuda_check.hpp"

namespace blockmoe::measure {
namespace {

constexpr std::size_t kFlushBytes = std::size_t{256} << 20;

__global__ void write_words(uint4* words, std::size_t count, std::uint32_t value) {
  for (std::size_t i = blockIdx.x * std::size_t{blockDim.x} + threadIdx.x; i < count;
       i += std::size_t{gridDim.x} * blockDim.x)
    words[i] = make_uint4(value, value, value, value);
}

// The store can't happen (no word is all ones), but the compiler does not know.
__global__ void read_words(const uint4* words, std::size_t count, std::uint32_t* sink) {
  std::uint32_t all = 0xffffffffu;
  for (std::size_t i = blockIdx.x * std::size_t{blockDim.x} + threadIdx.x; i < count;
       i += std::size_t{gridDim.x} * blockDim.x) {
    const uint4 w = words[i];
    all &= w.x & w.y & w.z & w.w;
  }
  if (all == 0xffffffffu) *sink = all;
}

struct GraphDeleter {
  void operator()(cudaGraphExec_t graph) const { cudaGraphExecDestroy(graph); }
};
using GraphExec = std::unique_ptr<std::remove_pointer_t<cudaGraphExec_t>, GraphDeleter>;

Result<GraphExec> capture(const Enqueue& work, cudaStream_t stream) {
  BLOCKMOE_CUDA_TRY(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  const Status enqueued = work(stream);
  cudaGraph_t graph = nullptr;
  const cudaError_t ended = cudaStreamEndCapture(stream, &graph);
  if (!enqueued.ok()) {
    if (graph != nullptr) cudaGraphDestroy(graph);
    return enqueued;
  }
  BLOCKMOE_CUDA_TRY(ended);
  cudaGraphExec_t exec = nullptr;
  const cudaError_t instantiated = cudaGraphInstantiate(&exec, graph, 0);
  cudaGraphDestroy(graph);
  BLOCKMOE_CUDA_TRY(instantiated);
  return GraphExec(exec);
}

}  // namespace

Sample summarise(std::vector<double> times_us) {
  if (times_us.empty()) return {};
  std::sort(times_us.begin(), times_us.end());
  const auto n = times_us.size();
  const auto at = [&](double q) {
    const auto rank = static_cast<std::size_t>(std::ceil(q * static_cast<double>(n)));
    return times_us[std::min(n - 1, rank == 0 ? 0 : rank - 1)];
  };
  return {n % 2 == 1 ? times_us[n / 2] : 0.5 * (times_us[n / 2 - 1] + times_us[n / 2]),
          at(0.1),
          at(0.9),
          times_us.front(),
          times_us.back(),
          static_cast<int>(n)};
}

struct Timer::State {
  cudaStream_t stream = nullptr;
  DeviceMemory dirty;  // written by a flush
  DeviceMemory clean;  // read by a flush; filled once
  DeviceMemory sink;
  int grid = 0;

  ~State() {
    if (stream != nullptr) cudaStreamDestroy(stream);
  }

  Status flush() {
    write_words<<<grid, 512, 0, stream>>>(static_cast<uint4*>(dirty.get()), kFlushBytes / 16, 1u);
    read_words<<<grid, 512, 0, stream>>>(static_cast<const uint4*>(clean.get()), kFlushBytes / 16,
                                         static_cast<std::uint32_t*>(sink.get()));
    return cuda_status(cudaGetLastError(), "flush of the L2");
  }

  // Each run: `before` outside the events, `body` between them.
  template <typename Before, typename Body>
  Result<Sample> repeat(const TimingOptions& options, Before before, Body body) {
    std::vector<double> times;
    cudaEvent_t start = nullptr;
    cudaEvent_t stop = nullptr;
    BLOCKMOE_CUDA_TRY(cudaEventCreate(&start));
    BLOCKMOE_CUDA_TRY(cudaEventCreate(&stop));
    const std::unique_ptr<CUevent_st, decltype(&cudaEventDestroy)> start_owner(start, &cudaEventDestroy);
    const std::unique_ptr<CUevent_st, decltype(&cudaEventDestroy)> stop_owner(stop, &cudaEventDestroy);
    for (int run = -options.warmup; run < options.runs; ++run) {
      BLOCKMOE_TRY(before());
      BLOCKMOE_CUDA_TRY(cudaEventRecord(start, stream));
      BLOCKMOE_TRY(body());
      BLOCKMOE_CUDA_TRY(cudaEventRecord(stop, stream));
      BLOCKMOE_CUDA_TRY(cudaEventSynchronize(stop));
      float milliseconds = 0;
      BLOCKMOE_CUDA_TRY(cudaEventElapsedTime(&milliseconds, start, stop));
      if (run >= 0) times.push_back(1e3 * static_cast<double>(milliseconds));
    }
    return summarise(std::move(times));
  }
};

Timer::Timer(State* state) : state_(state) {}
Timer::Timer(Timer&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}
Timer& Timer::operator=(Timer&& other) noexcept {
  std::swap(state_, other.state_);
  return *this;
}
Timer::~Timer() {
  delete state_;
}

void* Timer::stream() const {
  return state_->stream;
}

Result<Timer> Timer::create() {
  Timer timer(new State);
  State& s = *timer.state_;
  int device = 0;
  int sms = 0;
  BLOCKMOE_CUDA_TRY(cudaGetDevice(&device));
  BLOCKMOE_CUDA_TRY(cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, device));
  BLOCKMOE_CUDA_TRY(cudaStreamCreateWithFlags(&s.stream, cudaStreamNonBlocking));
  s.grid = sms * 4;
  auto dirty = allocate(kFlushBytes, "flush buffer");
  auto clean = allocate(kFlushBytes, "flush buffer");
  auto sink = allocate(sizeof(std::uint32_t), "flush buffer");
  for (const auto* r : {&dirty, &clean, &sink})
    if (!r->ok()) return r->status();
  s.dirty = std::move(dirty).value();
  s.clean = std::move(clean).value();
  s.sink = std::move(sink).value();
  BLOCKMOE_CUDA_TRY(cudaMemsetAsync(s.clean.get(), 0, kFlushBytes, s.stream));
  BLOCKMOE_CUDA_TRY(cudaStreamSynchronize(s.stream));
  return Result<Timer>(std::move(timer));
}

Result<Sample> Timer::graph(const Enqueue& work, const TimingOptions& options) {
  auto exec = capture(work, state_->stream);
  if (!exec.ok()) return exec.status();
  const cudaGraphExec_t graph = exec.value().get();
  return state_->repeat(
      options, [&] { return state_->flush(); },
      [&] { return cuda_status(cudaGraphLaunch(graph, state_->stream), "cudaGraphLaunch"); });
}

Result<Sample> Timer::eager(const Enqueue& work, const TimingOptions& options) {
  return state_->repeat(options, [&] { return state_->flush(); }, [&] { return work(state_->stream); });
}

Result<Sample> Timer::bursts(const Enqueue& work, const BurstOptions& options) {
  const auto rest = [&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(options.idle_ms));
    return Status();
  };
  const auto burst = [&]() -> Status {
    for (int i = 0; i < options.launches; ++i) BLOCKMOE_TRY(work(state_->stream));
    return {};
  };
  auto sample = state_->repeat({1, options.bursts}, rest, burst);
  if (!sample.ok()) return sample;
  Sample a_launch = sample.value();
  for (double* us : {&a_launch.median_us, &a_launch.p10_us, &a_launch.p90_us, &a_launch.min_us, &a_launch.max_us})
    *us /= options.launches;
  return a_launch;
}

Status Timer::once(const Enqueue& work) {
  BLOCKMOE_TRY(work(state_->stream));
  return cuda_status(cudaStreamSynchronize(state_->stream), "waiting for the call");
}

}  // namespace blockmoe::measure
