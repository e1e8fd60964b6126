// gpu_test.hpp: the base of all tests that need a GPU: skipped, with the reason, where there is none.
#pragma once

#include <cuda_runtime.h>
#include <gtest/gtest.h>

namespace blockmoe::test {

class GpuTest : public testing::Test {
 protected:
  void SetUp() override {
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess) GTEST_SKIP() << "no GPU here: " << cudaGetErrorString(error);
    cudaDeviceProp properties{};
    ASSERT_EQ(cudaSuccess, cudaGetDeviceProperties(&properties, 0));
    if (properties.major < 8)
      GTEST_SKIP() << properties.name << " has compute capability " << properties.major << "." << properties.minor
                   << ", the library needs 8.0";
  }
  void TearDown() override {
    if (IsSkipped()) return;
    EXPECT_EQ(cudaSuccess, cudaGetLastError());
  }
};

}  // namespace blockmoe::test
