// work.cuh: what a CTA works on: the warp that streams weights takes parts (split.h) and tells all other roles, which are told
// each item as a ring slot is filled, a few ahead.
#pragma once

#include <cstdint>

#include "hopper/columns.cuh"
#include "hopper/ring.cuh"

namespace blockmoe::kernels::hopper {

inline constexpr int kQueued = 4;  // items of a CTA that some role has not done with

struct Work {
  std::int32_t product = 0;  // 0 gemm1, 1 gemm2
  Tile tile;
  std::int32_t k_begin = 0;  // K blocks [k_begin, k_end); of the end of all work, none
  std::int32_t k_end = 0;
  std::int32_t share = 0;  // as of Part
  std::int32_t first_contributor = 0;
  std::int32_t slots_a_block = 0;  // ring slots of a K block: 2 where X's two terms come one after the other

  __device__ std::int32_t slots() const { return (k_end - k_begin) * slots_a_block; }
};

struct WorkQueue {
  Work work[kQueued];
  Ring<kQueued> ring;
};

// A warp's, or a single lane's, way through the CTA's work.
class WorkReader {
 public:
  __device__ __forceinline__ explicit WorkReader(WorkQueue& queue) : queue_(queue), ring_(queue.ring) {}

  // The next item; false when there is none. It stays where it is until released.
  __device__ __forceinline__ bool next() { return queue_.work[ring_.wait()].k_end > 0; }
  __device__ __forceinline__ const Work& work() const { return queue_.work[ring_.slot()]; }

  // By a single lane.
  __device__ __forceinline__ void release() {
    ring_.release();
    ring_.advance();
  }
  // By a whole warp.
  __device__ __forceinline__ void release_by_warp() {
    __syncwarp();
    if (threadIdx.x % 32 == 0) ring_.release();
    ring_.advance();
  }

 private:
  WorkQueue& queue_;
  RingConsumer<kQueued> ring_;
};

}  // namespace blockmoe::kernels::hopper
