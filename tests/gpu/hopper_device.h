// hopper_device.h: what the tests of kernels/hopper share: device memory, random e4m3 codes, a skip where there is no such GPU.
#pragma once

#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "contract/e4m3.h"
#include "device_array.h"

namespace blockmoe::test {

#define BLOCKMOE_CUDA_OK(expression) ASSERT_EQ(cudaSuccess, (expression)) << cudaGetErrorString(cudaGetLastError())

class HopperTest : public testing::Test {
 protected:
  void SetUp() override {
    int device = 0;
    if (cudaGetDevice(&device) != cudaSuccess) GTEST_SKIP() << "no GPU here";
    BLOCKMOE_CUDA_OK(cudaGetDeviceProperties(&properties_, device));
    if (properties_.major != 9) GTEST_SKIP() << "needs compute capability 9.0, this is a " << properties_.name;
  }
  cudaDeviceProp properties_{};
};

inline std::vector<std::uint8_t> random_codes(std::size_t count, std::uint32_t seed) {
  std::mt19937 engine(seed);
  std::vector<std::uint8_t> table(4096);
  std::normal_distribution<float> normal;
  for (auto& code : table) code = contract::e4m3_encode(normal(engine));
  std::vector<std::uint8_t> codes(count);
  for (std::size_t i = 0; i < count; i += 2) {
    const std::uint32_t bits = engine();
    codes[i] = table[bits % 4096];
    if (i + 1 < count) codes[i + 1] = table[(bits >> 16) % 4096];
  }
  return codes;
}

// Integers -2..2, whose products and sums are exact in any order.
inline std::vector<std::uint8_t> integer_codes(std::size_t count, std::uint32_t seed) {
  std::mt19937 engine(seed);
  std::vector<std::uint8_t> codes(count);
  for (auto& code : codes) code = contract::e4m3_encode(static_cast<float>(static_cast<int>(engine() % 5) - 2));
  return codes;
}

inline std::vector<float> random_floats(std::size_t count, std::uint32_t seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (auto& value : values) value = normal(engine);
  return values;
}

// ||value - reference|| / ||reference||; NaN anywhere gives NaN.
template <typename A, typename B>
double relative_l2(const std::vector<A>& value, const std::vector<B>& reference) {
  double error = 0.0, norm = 0.0;
  for (std::size_t i = 0; i < reference.size(); ++i) {
    const double difference = static_cast<double>(value[i]) - static_cast<double>(reference[i]);
    error += difference * difference;
    norm += static_cast<double>(reference[i]) * static_cast<double>(reference[i]);
  }
  return std::sqrt(error) / std::sqrt(norm);
}

}  // namespace blockmoe::test
