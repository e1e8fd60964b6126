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

// `count` values on the device, each byte 0xff at first: a NaN in every float type here.
template <typename T>
class DeviceArray {
 public:
  DeviceArray() = default;
  explicit DeviceArray(std::size_t count) : count_(count) {
    EXPECT_EQ(cudaSuccess, cudaMalloc(reinterpret_cast<void**>(&data_), count * sizeof(T) + 1));
    EXPECT_EQ(cudaSuccess, cudaMemset(data_, 0xff, count * sizeof(T)));
  }
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) {
    EXPECT_EQ(cudaSuccess, cudaMemcpy(data_, values.data(), count_ * sizeof(T), cudaMemcpyHostToDevice));
  }
  DeviceArray(DeviceArray&& other) noexcept : data_(other.data_), count_(other.count_) { other.data_ = nullptr; }
  DeviceArray& operator=(DeviceArray&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(count_, other.count_);
    return *this;
  }
  ~DeviceArray() { cudaFree(data_); }

  T* get() const { return data_; }
  std::size_t size() const { return count_; }
  std::vector<T> host() const {
    std::vector<T> values(count_);
    EXPECT_EQ(cudaSuccess, cudaMemcpy(values.data(), data_, count_ * sizeof(T), cudaMemcpyDeviceToHost));
    return values;
  }
  void fill(int byte) { EXPECT_EQ(cudaSuccess, cudaMemset(data_, byte, count_ * sizeof(T))); }

 private:
  T* data_ = nullptr;
  std::size_t count_ = 0;
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
