#include "bench_gpu.hpp"

#include "error.hpp"

#if BLOCKMOE_WITH_CUDA

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "ceilings.hpp"
#include "measure/cuda_check.hpp"
#include "measure/device_inputs.hpp"
#include "measure/gpu_call.hpp"
#include "measure/products.hpp"
#include "measure/reader.hpp"
#include "measure/stage_times.hpp"
#include "measure/timing.hpp"
#include "verify/oracle.hpp"

namespace blockmoe::cli {
namespace {

double flops_of(const contract::Geometry& g, std::int64_t rows) {
  const double a_row = 2.0 * static_cast<double>(g.hidden) * 3.0 * static_cast<double>(g.intermediate);
  return a_row * static_cast<double>(rows);
}

// The bytes that any implementation must read: both weight tensors of each expert that has a row.
std::vector<measure::ByteRange> weights_of(const contract::Geometry& g, const contract::Weights& weights,
                                           const std::vector<std::int64_t>& rows_of_expert) {
  std::vector<measure::ByteRange> ranges;
  const std::int64_t w13 = 2 * g.intermediate * g.hidden;
  const std::int64_t w2 = g.hidden * g.intermediate;
  for (std::int64_t e = 0; e < g.local_experts; ++e) {
    if (rows_of_expert[static_cast<std::size_t>(e)] == 0) continue;
    ranges.push_back({weights.w13 + e * w13, w13});
    ranges.push_back({weights.w2 + e * w2, w2});
  }
  return ranges;
}

BenchTime to_time(const measure::Sample& sample) {
  return {sample.median_us, sample.p10_us, sample.p90_us};
}

}  // namespace

struct GpuBench::State {
  DeviceInfo device;
  Options options;
  BenchTiming timing;
  int threads = 0;
  workload::InputMaker maker;
  measure::Timer timer;

  // What draw() drew, on the host and on the device.
  workload::Inputs drawn;
  measure::DeviceInputs placed;
  // Of its first tokens, by the number of active experts: the same number is the same experts.
  std::map<std::int32_t, double> read_us_of_first;

  measure::TimingOptions runs() const { return {timing.warmup, timing.runs}; }
  verify::RoutingFacts facts_of(const workload::Inputs& inputs) const {
    return verify::routing_facts(inputs.geometry, inputs.weights, inputs.activations, threads,
                                 contract_of(options.pruning));
  }
  double time_read(const workload::Inputs& inputs, const measure::GpuCall& call, const verify::RoutingFacts& facts) {
    const auto weights = weights_of(inputs.geometry, call.inputs().weights, facts.rows_of_expert);
    return value_or_raise(measure::measure_read(timer, weights, runs())).median_us;
  }
  BenchRow time(const workload::Inputs& inputs, const measure::GpuCall& call, const verify::RoutingFacts& facts,
                double read_us, const BenchReport& report);
};

BenchRow GpuBench::State::time(const workload::Inputs& inputs, const measure::GpuCall& call,
                               const verify::RoutingFacts& facts, double read_us, const BenchReport& report) {
  const auto enqueue = [&](void* stream) { return call.enqueue(stream); };
  BenchRow row;
  row.tokens = inputs.tokens();
  row.active_experts = facts.active_experts;
  row.rows = facts.rows;
  row.path = call.plan().path();
  row.flops = flops_of(inputs.geometry, facts.rows);
  const double flops_us = report.fp8_tflops > 0 ? row.flops / report.fp8_tflops * 1e-6 : 0;
  row.read_us = read_us;
  row.floor_us = std::max(read_us, flops_us);
  require_ok(timer.once(enqueue));
  row.graph = to_time(value_or_raise(timer.graph(enqueue, runs())));
  if (timing.eager) row.eager = to_time(value_or_raise(timer.eager(enqueue, runs())));
  if (timing.stages) {
    const api::PlanRequest request{inputs.geometry, inputs.tokens(), device, options};
    row.stages_us = value_or_raise(measure::time_stages(timer, call, request, runs()));
  }
  return row;
}

GpuBench::GpuBench(const DeviceInfo& device, const Options& options, const workload::InputOptions& inputs,
                   const BenchTiming& timing) {
  if (device.device.type != DeviceType::cuda) refuse("--device", "cpu", "cuda or cuda:N", "bench measures on a GPU");
  require_ok(measure::cuda_status(cudaSetDevice(device.device.index), "cudaSetDevice"));
  state_ = std::make_unique<State>(State{device,
                                         options,
                                         timing,
                                         inputs.threads,
                                         workload::InputMaker(inputs),
                                         value_or_raise(measure::Timer::create()),
                                         {},
                                         {},
                                         {}});
}

GpuBench::~GpuBench() = default;

void GpuBench::measure_ceilings(BenchReport& report, Progress& progress) {
  State& s = *state_;
  report.machine = machine_with(s.device);
  report.method = fmt::format(
      "one whole call as a CUDA graph; before each replay 256 MiB written, then 256 MiB of something else read; events "
      "around the replay; median of {} after {} warm-up. Dense products: the median burst of {} launches after {} ms "
      "of rest",
      s.timing.runs, s.timing.warmup, measure::kProductBursts.launches, measure::kProductBursts.idle_ms);

  progress.begin("ceilings");
  progress.show("reading");
  constexpr std::int64_t kBytes =
      32 * std::int64_t{44'040'192};  // every expert of DeepSeek-V3's layer on one of eight ranks
  const auto memory = value_or_raise(measure::allocate(kBytes, "memory to read"));
  require_ok(measure::cuda_status(cudaMemset(memory.get(), 0x35, kBytes), "cudaMemset"));
  const measure::Sample read = value_or_raise(measure::measure_read(s.timer, {{memory.get(), kBytes}}, s.runs()));
  report.read_gbps = static_cast<double>(kBytes) / read.median_us * 1e-3;

  progress.show("products");
  if (const auto rates = measure::measure_products(s.timer); rates.ok()) {
    report.fp8_tflops = rates.value().fp8_tflops;
    report.blockwise_tflops = rates.value().blockwise_tflops;
  } else {
    report.notes.push_back(rates.status().message() + ": no product rates, floors count bytes alone");
  }
  progress.clear();
  judge_ceilings(report);
}

BenchRow GpuBench::measure(const workload::Workload& workload, const BenchReport& report, Progress& progress) {
  State& s = *state_;
  progress.show("making inputs");
  const workload::Inputs inputs = value_or_raise(s.maker.make(workload));
  const verify::RoutingFacts facts = s.facts_of(inputs);
  const measure::GpuCall call = value_or_raise(measure::GpuCall::create(inputs, s.device, s.options));
  progress.show("timing");
  return s.time(inputs, call, facts, s.time_read(inputs, call, facts), report);
}

void GpuBench::draw(const workload::Workload& workload, Progress& progress) {
  State& s = *state_;
  progress.show("making inputs");
  s.drawn = value_or_raise(s.maker.make(workload));
  s.placed = value_or_raise(measure::copy_to_device(s.drawn, s.device.device.index));
  s.read_us_of_first.clear();
}

BenchRow GpuBench::measure_first(std::int64_t tokens, const BenchReport& report, Progress& progress) {
  State& s = *state_;
  progress.show("timing");
  const workload::Inputs inputs = value_or_raise(workload::first_tokens(s.drawn, tokens));
  const verify::RoutingFacts facts = s.facts_of(inputs);
  const measure::GpuCall call = value_or_raise(measure::GpuCall::create(
      inputs, value_or_raise(measure::copy_activations(inputs, s.placed, s.device.device.index)), s.device, s.options));
  auto read = s.read_us_of_first.find(facts.active_experts);
  if (read == s.read_us_of_first.end()) {
    read = s.read_us_of_first.emplace(facts.active_experts, s.time_read(inputs, call, facts)).first;
  }
  return s.time(inputs, call, facts, read->second, report);
}

}  // namespace blockmoe::cli

#else

#include <cstdlib>

namespace blockmoe::cli {

struct GpuBench::State {};

GpuBench::GpuBench(const DeviceInfo&, const Options&, const workload::InputOptions&, const BenchTiming&) {
  throw InputError("this build has no GPU backends, and bench measures on a GPU");
}
GpuBench::~GpuBench() = default;

// Nobody has a GpuBench to call them on.
void GpuBench::measure_ceilings(BenchReport&, Progress&) {
  std::abort();
}
BenchRow GpuBench::measure(const workload::Workload&, const BenchReport&, Progress&) {
  std::abort();
}
void GpuBench::draw(const workload::Workload&, Progress&) {
  std::abort();
}
BenchRow GpuBench::measure_first(std::int64_t, const BenchReport&, Progress&) {
  std::abort();
}

}  // namespace blockmoe::cli

#endif
