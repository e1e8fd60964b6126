#include "call_gpu.hpp"

#include "error.hpp"

#if BLOCKMOE_WITH_CUDA

#include <cuda_runtime_api.h>

#include <optional>
#include <utility>
#include <vector>

#include "measure/cuda_check.hpp"
#include "measure/gpu_call.hpp"
#include "measure/timing.hpp"
#include "verify/expert_oracle_cuda.hpp"

namespace blockmoe::cli {

struct GpuCaller::State {
  DeviceInfo device;
  Options options;
  measure::Timer timer;
  std::optional<measure::GpuCall> call;  // the last one, with its inputs
  contract::Geometry geometry;
  std::vector<std::uint16_t> output;
};

GpuCaller::GpuCaller(const DeviceInfo& device, const Options& options) {
  require_ok(measure::cuda_status(cudaSetDevice(device.device.index), "cudaSetDevice"));
  state_ = std::make_unique<State>(State{device, options, value_or_raise(measure::Timer::create()), {}, {}, {}});
}

GpuCaller::~GpuCaller() = default;

CallResult GpuCaller::call(const workload::Inputs& inputs) {
  State& s = *state_;
  s.call.reset();  // its memory is free before the next one's is taken
  s.call.emplace(value_or_raise(measure::GpuCall::create(inputs, s.device, s.options)));
  s.geometry = inputs.geometry;
  const auto enqueue = [&](void* stream) { return s.call->enqueue(stream); };
  require_ok(s.timer.once(enqueue));
  s.output = value_or_raise(s.call->fetch_output());

  require_ok(s.call->poison_output());
  const measure::Sample sample = value_or_raise(s.timer.graph(enqueue, {}));
  CallResult result;
  result.path = s.call->plan().path();
  result.gemm1_path = s.call->plan().gemm1_path();
  result.gemm2_path = s.call->plan().gemm2_path();
  result.backend = s.call->plan().backend();
  result.output = s.output;
  result.times = {sample.median_us, sample.min_us, sample.max_us, sample.runs,
                  "a replayed CUDA graph of the whole call, by events, L2 flushed before each"};
  result.repeatable = value_or_raise(s.call->fetch_output()) == s.output;
  return result;
}

verify::ExpertRowsElsewhere GpuCaller::oracle_products() const {
  return [this](std::span<const verify::ExpertRow> rows) {
    const measure::DeviceInputs& inputs = state_->call->inputs();
    return value_or_raise(verify::expert_rows_cuda(state_->geometry, inputs.weights, inputs.activations, rows));
  };
}

}  // namespace blockmoe::cli

#else

#include <cstdlib>

namespace blockmoe::cli {

struct GpuCaller::State {};

// query_device() knows no CUDA device in this build, so nobody has one to make a GpuCaller for.
GpuCaller::GpuCaller(const DeviceInfo&, const Options&) {
  std::abort();
}
GpuCaller::~GpuCaller() = default;
CallResult GpuCaller::call(const workload::Inputs&) {
  std::abort();
}
verify::ExpertRowsElsewhere GpuCaller::oracle_products() const {
  std::abort();
}

}  // namespace blockmoe::cli

#endif
