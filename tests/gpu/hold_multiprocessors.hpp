// hold_multiprocessors.hpp: another kernel that has multiprocessors for itself and keeps them.
#pragma once

#include <cuda_runtime.h>

namespace blockmoe::test {

// While it lives, `count` multiprocessors run a CTA each that has all their shared memory and waits for a word in host memory.
// What waits for the whole device does not return meanwhile; nor may a kernel be launched for the first time.
class HeldMultiprocessors {
 public:
  // Returns when all of them are held; fails the test where that takes too long.
  explicit HeldMultiprocessors(int count);
  HeldMultiprocessors(const HeldMultiprocessors&) = delete;
  HeldMultiprocessors& operator=(const HeldMultiprocessors&) = delete;
  ~HeldMultiprocessors();

 private:
  volatile int* words_ = nullptr;  // host memory that the device sees: released, then of each CTA whether it has begun
  cudaStream_t stream_ = nullptr;
};

}  // namespace blockmoe::test
