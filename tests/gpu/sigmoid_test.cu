// The device's sigmoid: the contract's bits for every float.
#include <cstdint>
#include <cstring>
#include <vector>

#include "contract/exp.h"
#include "device_array.h"
#include "gpu_test.hpp"
#include "stages/sigmoid.cuh"

namespace blockmoe::test {
namespace {

using SigmoidTest = GpuTest;

bool same(float a, float b) {
  if (a != a) return b != b;
  return contract::bits_of(a) == contract::bits_of(b);
}

// Counts the floats with bits [first, first + 2^32) / stride at which the two sigmoids differ.
__global__ void count_differences(unsigned long long* differences) {
  const std::uint64_t threads = static_cast<std::uint64_t>(gridDim.x) * blockDim.x;
  unsigned long long mine = 0;
  for (std::uint64_t bits = blockIdx.x * static_cast<std::uint64_t>(blockDim.x) + threadIdx.x; bits < (1ULL << 32);
       bits += threads) {
    const float x = __uint_as_float(static_cast<std::uint32_t>(bits));
    const float expected = contract::sigmoid(x);
    const float found = kernels::stages::sigmoid(x);
    const bool equal = expected != expected ? found != found : __float_as_uint(expected) == __float_as_uint(found);
    mine += equal ? 0 : 1;
  }
  atomicAdd(differences, mine);
}

// The largest error of the approximate sigmoid over all floats but NaN, as bits, which order as errors do; and how many NaN
// do not give NaN.
__global__ void measure_approximation(unsigned* largest_error, unsigned* lost) {
  const std::uint64_t threads = static_cast<std::uint64_t>(gridDim.x) * blockDim.x;
  unsigned mine = 0;
  for (std::uint64_t bits = blockIdx.x * static_cast<std::uint64_t>(blockDim.x) + threadIdx.x; bits < (1ULL << 32);
       bits += threads) {
    const float x = __uint_as_float(static_cast<std::uint32_t>(bits));
    const float found = kernels::stages::approximate_sigmoid(x);
    if (x != x) {
      if (found == found) atomicAdd(lost, 1U);
    } else {
      mine = max(mine, __float_as_uint(fabsf(found - contract::sigmoid(x))));
    }
  }
  atomicMax(largest_error, mine);
}

__global__ void evaluate(const float* x, std::int64_t count, float* y) {
  const std::int64_t i = blockIdx.x * static_cast<std::int64_t>(blockDim.x) + threadIdx.x;
  if (i < count) y[i] = kernels::stages::sigmoid(x[i]);
}

TEST_F(SigmoidTest, short_form_has_the_contracts_bits_for_every_float) {
  const DeviceArray<unsigned long long> differences(std::vector<unsigned long long>{0});
  count_differences<<<1024, 256>>>(differences.get());
  ASSERT_EQ(cudaSuccess, cudaDeviceSynchronize());
  EXPECT_EQ(0ULL, differences.host()[0]);
}

TEST_F(SigmoidTest, approximation_is_as_close_as_routing_relies_on_for_every_float) {
  const DeviceArray<unsigned> largest_error(std::vector<unsigned>{0});
  const DeviceArray<unsigned> lost(std::vector<unsigned>{0});
  measure_approximation<<<1024, 256>>>(largest_error.get(), lost.get());
  ASSERT_EQ(cudaSuccess, cudaDeviceSynchronize());
  EXPECT_LT(contract::float_of(largest_error.host()[0]), kernels::stages::kApproximateSigmoidError);
  EXPECT_EQ(0U, lost.host()[0]);
}

TEST_F(SigmoidTest, device_and_host_give_the_same_bits) {
  std::vector<float> x;
  for (std::uint64_t bits = 0; bits < (1ULL << 32); bits += 1021) {
    x.push_back(contract::float_of(static_cast<std::uint32_t>(bits)));
  }
  const DeviceArray<float> in(x);
  const DeviceArray<float> out(x.size());
  evaluate<<<static_cast<unsigned>(x.size() / 256 + 1), 256>>>(in.get(), static_cast<std::int64_t>(x.size()),
                                                               out.get());
  ASSERT_EQ(cudaSuccess, cudaDeviceSynchronize());
  const std::vector<float> y = out.host();
  std::int64_t differences = 0;
  for (std::size_t i = 0; i < x.size(); ++i) differences += same(contract::sigmoid(x[i]), y[i]) ? 0 : 1;
  EXPECT_EQ(0, differences);
}

}  // namespace
}  // namespace blockmoe::test
