#include "hold_multiprocessors.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <thread>

namespace blockmoe::test {
namespace {

__global__ void hold(volatile int* words) {
  words[1 + blockIdx.x] = 1;
  __threadfence_system();
  while (words[0] == 0) __nanosleep(1000);
}

}  // namespace

HeldMultiprocessors::HeldMultiprocessors(int count) {
  constexpr std::chrono::seconds kLongest{30};
  int device = 0;
  int shared_bytes = 0;
  void* words = nullptr;
  EXPECT_EQ(cudaSuccess, cudaGetDevice(&device));
  EXPECT_EQ(cudaSuccess, cudaDeviceGetAttribute(&shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  EXPECT_EQ(cudaSuccess, cudaFuncSetAttribute(hold, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes));
  EXPECT_EQ(cudaSuccess, cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
  EXPECT_EQ(cudaSuccess, cudaHostAlloc(&words, static_cast<std::size_t>(1 + count) * sizeof(int), cudaHostAllocMapped));
  words_ = static_cast<volatile int*>(words);
  for (int i = 0; i <= count; ++i) words_[i] = 0;
  hold<<<static_cast<unsigned>(count), 1, static_cast<std::size_t>(shared_bytes), stream_>>>(words_);
  EXPECT_EQ(cudaSuccess, cudaGetLastError());

  const auto begun = [&] { return std::count(words_ + 1, words_ + 1 + count, 1); };
  const auto start = std::chrono::steady_clock::now();
  while (begun() < count && std::chrono::steady_clock::now() - start < kLongest) std::this_thread::yield();
  EXPECT_EQ(begun(), count) << "multiprocessors held";
}

HeldMultiprocessors::~HeldMultiprocessors() {
  words_[0] = 1;
  EXPECT_EQ(cudaSuccess, cudaStreamSynchronize(stream_));
  EXPECT_EQ(cudaSuccess, cudaStreamDestroy(stream_));
  EXPECT_EQ(cudaSuccess, cudaFreeHost(const_cast<int*>(words_)));
}

}  // namespace blockmoe::test
