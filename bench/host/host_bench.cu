// host_bench: what one call on a GPU costs its thread, and what the driver's answers cost of which it is made.
//
// T = 1 of DeepSeek-V3's layer: three launches. The same number of kernels that do nothing, with parameters of about the same
// size, is what any way of launching pays. Launches are asynchronous; the device is waited for between batches, outside the times.
#include <cuda_runtime.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "api/cuda_device.hpp"
#include "blockmoe/blockmoe.hpp"
#include "launch.h"
#include "measure/cuda_check.hpp"
#include "once_a_context.h"
#include "operator.h"

namespace {

using namespace blockmoe;

constexpr int kBatches = 100;
constexpr int kCallsABatch = 100;  // of three launches each: the stream's queue holds 1024

template <int kBytes>
struct Bytes {
  char bytes[kBytes];
};
template <int kBytes>
__global__ void nothing(Bytes<kBytes>) {}

void require(const Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s\n", status.message().c_str());
  std::exit(1);
}

template <typename T>
T value_of(Result<T> result) {
  require(result.status());
  return std::move(result).value();
}

// Median over all calls, which includes about 20 ns of reading the clock.
template <typename Call>
void report(const char* what, Call call) {
  using Clock = std::chrono::steady_clock;
  std::vector<double> times;
  for (int batch = 0; batch < kBatches; ++batch) {
    for (int i = 0; i < kCallsABatch; ++i) {
      const Clock::time_point start = Clock::now();
      call();
      times.push_back(std::chrono::duration<double, std::micro>(Clock::now() - start).count());
    }
    cudaDeviceSynchronize();
  }
  const auto median = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2);
  std::nth_element(times.begin(), median, times.end());
  std::printf("%-58s %7.3f us\n", what, *median);
}

// Zeros of a tensor, which live as long as the program.
Tensor zeros(DType type, std::initializer_list<std::int64_t> shape) {
  std::int64_t elements = 1;
  for (const std::int64_t size : shape) elements *= size;
  const auto bytes = static_cast<std::size_t>(elements) * 4;  // room for the widest type
  void* const memory = value_of(measure::allocate(bytes, "tensor")).release();
  require(measure::cuda_status(cudaMemset(memory, 0, bytes), "cudaMemset"));
  return Tensor::contiguous(memory, type, {DeviceType::cuda, 0}, shape);
}

void launch_nothing() {
  kernels::LaunchShape shape{dim3(1), dim3(128)};
  kernels::launch_kernel("nothing", nothing<256>, shape, nullptr, Bytes<256>{});
  shape.dependent = true;
  kernels::launch_kernel("nothing", nothing<640>, shape, nullptr, Bytes<640>{});
  kernels::launch_kernel("nothing", nothing<256>, shape, nullptr, Bytes<256>{});
}

}  // namespace

int main() {
  const DeviceInfo device = value_of(query_device({DeviceType::cuda, 0}));
  const Geometry geometry;
  const std::int64_t L = geometry.local_experts, H = geometry.hidden, I = geometry.intermediate, E = geometry.experts;
  using enum DType;
  Weights weights;
  weights.routing_bias = zeros(bfloat16, {E});
  weights.gemm1_weights = zeros(float8_e4m3, {L, 2 * I, H});
  weights.gemm1_weights_scale = zeros(float32, {L, 2 * I / 128, H / 128});
  weights.gemm2_weights = zeros(float8_e4m3, {L, H, I});
  weights.gemm2_weights_scale = zeros(float32, {L, H / 128, I / 128});
  Activations activations;
  activations.routing_logits = zeros(float32, {1, E});
  activations.hidden_states = zeros(float8_e4m3, {1, H});
  activations.hidden_states_scale = zeros(float32, {H / 128, 1});
  const Tensor output = zeros(bfloat16, {1, H});

  const Plan plan = value_of(Plan::create(geometry, 1, device));
  const BoundPlan bound = value_of(plan.bind(weights));
  const Workspace workspace{value_of(measure::allocate(plan.workspace().bytes, "workspace")).release(),
                            plan.workspace().bytes};
  require(bound.run(activations, output, workspace));  // kernels are loaded here, if they were not
  launch_nothing();

  std::printf("%s, %s, T = 1, medians of %d\n", device.name, plan.path().c_str(), kBatches * kCallsABatch);
  report("three kernels of nothing", launch_nothing);
  report("bound.run", [&] { require(bound.run(activations, output, workspace)); });
  report("plan.bind", [&] { require(plan.bind(weights).status()); });
  report("Plan::create", [&] { require(Plan::create(geometry, 1, device).status()); });

  std::printf("\nof which they are made\n");
  int number = 0;
  cudaFuncAttributes function{};
  cudaDeviceProp properties{};
  cudaPointerAttributes pointer{};
  report("nothing: the clock", [] {});
  report("cudaGetDevice", [&] { cudaGetDevice(&number); });
  report("a device's attribute", [&] { cudaDeviceGetAttribute(&number, cudaDevAttrMultiProcessorCount, 0); });
  report("the opt-in shared memory",
         [&] { cudaDeviceGetAttribute(&number, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0); });
  report("a device's properties", [&] { cudaGetDeviceProperties(&properties, 0); });
  report("the context's number", [] { static_cast<void>(kernels::current_context()); });
  report("where an address leads, asked of the runtime", [&] { cudaPointerGetAttributes(&pointer, output.data); });
  report("where an address leads, as a call asks", [&] { static_cast<void>(api::not_memory_of(output.data, 0)); });
  report("a kernel's attributes", [&] { cudaFuncGetAttributes(&function, nothing<640>); });
  report("a kernel's attribute set",
         [] { cudaFuncSetAttribute(nothing<640>, cudaFuncAttributePreferredSharedMemoryCarveout, 100); });
}
