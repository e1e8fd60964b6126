#include "call.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <new>
#include <vector>

#include "call_gpu.hpp"
#include "error.hpp"

namespace blockmoe::cli {
namespace {

constexpr std::size_t kOutputAlignment = 256;

template <typename Call>
CallTimes time_calls(Call call) {
  using Clock = std::chrono::steady_clock;
  constexpr int kFewest = 3;
  constexpr int kMost = 31;
  constexpr double kEnoughUs = 300'000;
  constexpr double kTooLongUs = 5'000'000;  // past it, one call must do
  std::vector<double> times;
  double total = 0;
  while ((times.size() < kFewest && total < kTooLongUs) || (total < kEnoughUs && times.size() < kMost)) {
    const Clock::time_point start = Clock::now();
    call();
    const double us = std::chrono::duration<double, std::micro>(Clock::now() - start).count();
    times.push_back(us);
    total += us;
  }
  std::sort(times.begin(), times.end());
  const std::size_t middle = times.size() / 2;
  const double median = times.size() % 2 == 1 ? times[middle] : (times[middle - 1] + times[middle]) / 2;
  return {median, times.front(), times.back(), static_cast<int>(times.size()),
          "whole calls by the steady clock, caches warm"};
}

}  // namespace

std::byte* HostBuffer::reserve(std::size_t bytes, std::size_t alignment) {
  if (bytes > capacity_ || alignment > alignment_) {
    memory_.reset();
    const std::size_t rounded = (bytes + alignment - 1) / alignment * alignment;
    memory_.reset(static_cast<std::byte*>(std::aligned_alloc(alignment, rounded)));
    if (rounded != 0 && memory_ == nullptr) throw std::bad_alloc();
    capacity_ = bytes;
    alignment_ = alignment;
  }
  return memory_.get();
}

void HostBuffer::poison(std::size_t bytes) {
  if (bytes != 0) std::memset(memory_.get(), 0xff, bytes);
}

Caller::Caller(const DeviceInfo& device, const Options& options) : device_(device), options_(options) {
  if (device.device.type == DeviceType::cuda) gpu_ = std::make_unique<GpuCaller>(device, options);
}

Caller::~Caller() = default;

Workspace Caller::workspace_for(const Plan& plan) {
  const WorkspaceNeed need = plan.workspace();
  std::byte* const memory = workspace_.reserve(need.bytes, need.alignment);
  workspace_.poison(need.bytes);
  if (need.init == WorkspaceInit::zeroed_once && need.bytes != 0) std::memset(memory, 0, need.bytes);
  return {memory, need.bytes};
}

CallResult Caller::call(const workload::Inputs& inputs) {
  return gpu_ ? gpu_->call(inputs) : call_on_cpu(inputs);
}

verify::ExpertRowsElsewhere Caller::oracle_products() const {
  return gpu_ ? gpu_->oracle_products() : nullptr;
}

CallResult Caller::call_on_cpu(const workload::Inputs& inputs) {
  const Plan plan = value_or_raise(Plan::create(inputs.public_geometry(), inputs.tokens(), device_, options_));
  const BoundPlan bound = value_or_raise(plan.bind(inputs.public_weights()));
  const Workspace workspace = workspace_for(plan);

  const std::int64_t hidden = inputs.geometry.hidden;
  const auto elements = static_cast<std::size_t>(inputs.tokens() * hidden);
  const std::size_t bytes = elements * sizeof(std::uint16_t);
  const auto output_in = [&](HostBuffer& buffer) {
    std::byte* const memory = buffer.reserve(bytes, kOutputAlignment);
    buffer.poison(bytes);
    return Tensor::contiguous(memory, DType::bfloat16, device_.device, {inputs.tokens(), hidden});
  };
  const Tensor first = output_in(first_output_);
  const Tensor timed = output_in(timed_output_);
  const blockmoe::Activations activations = inputs.public_activations();

  require_ok(bound.run(activations, first, workspace));
  CallResult result;
  result.times = time_calls([&] { require_ok(bound.run(activations, timed, workspace)); });
  result.repeatable = bytes == 0 || std::memcmp(first.data, timed.data, bytes) == 0;
  result.path = plan.path();
  result.gemm1_path = plan.gemm1_path();
  result.gemm2_path = plan.gemm2_path();
  result.backend = plan.backend();
  result.output = {static_cast<const std::uint16_t*>(first.data), elements};
  return result;
}

}  // namespace blockmoe::cli
