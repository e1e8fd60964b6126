// cuda_runtime.h: as much of CUDA as lets a host compiler compile a kernel of this project, and run it: for unit tests, which
// put this folder before kernels/ in the include path.
//
// Each thread of a CTA is a fiber. It runs until it meets a barrier or a warp-wide operation, where it waits for the others;
// so a lane is ahead of its neighbours by as much as the program allows, and a missing __syncwarp() shows. Lanes that meet in
// different operations end the program.
#pragma once

#include <ucontext.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#define __device__
#define __host__
#define __global__ static
#define __shared__
#define __forceinline__ inline
#define __grid_constant__
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  dim3() = default;
  dim3(unsigned x_) : x(x_) {}  // NOLINT: CUDA's converts, too
};
struct float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
inline float4 make_float4(float x, float y, float z, float w) {
  return {x, y, z, w};
}
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) {
  return {x, y, z, w};
}
using cudaStream_t = void*;

inline dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace blockmoe::test {

enum class Meeting { none, cta, warp, shuffle, vote, reduction };

class DeviceOnHost {
 public:
  static DeviceOnHost& instance() {
    static DeviceOnHost device;
    return device;
  }

  void run(unsigned grid, unsigned block, const std::function<void()>& kernel) {
    kernel_ = &kernel;
    gridDim = grid;
    blockDim = block;
    for (unsigned b = 0; b < grid; ++b) {
      blockIdx = b;
      run_cta(block);
    }
  }

  // All threads of the CTA.
  void meet_cta() {
    Group& all = cta_;
    arrive(all, blockDim.x, Meeting::cta);
  }

  // What each lane of the warp brings to the meeting.
  const std::array<std::uint32_t, 32>& meet_warp(Meeting meeting, std::uint32_t value) {
    Group& warp = warps_[threadIdx.x / 32];
    auto& values = warp.values[warp.generation % 2];  // of the meeting after next, too
    values[threadIdx.x % 32] = value;
    arrive(warp, 32, meeting);
    return values;
  }

 private:
  struct Group {
    unsigned generation = 0;
    unsigned arrived = 0;
    Meeting meeting = Meeting::none;
    std::array<std::uint32_t, 32> values[2];
  };
  struct Fiber {
    ucontext_t context;
    std::unique_ptr<char[]> stack;
    bool ended = false;
  };
  static constexpr std::size_t kStackBytes = 128 * 1024;

  void arrive(Group& group, unsigned members, Meeting meeting) {
    if (group.arrived > 0 && group.meeting != meeting) {
      std::fprintf(stderr, "thread %u: others of its warp or CTA wait elsewhere\n", threadIdx.x);
      std::abort();
    }
    group.meeting = meeting;
    const unsigned generation = group.generation;
    if (++group.arrived == members) {
      group.arrived = 0;
      ++group.generation;
      return;
    }
    while (group.generation == generation) yield();
  }

  // To the next thread that has not ended.
  void yield() {
    const unsigned here = threadIdx.x;
    unsigned next = here;
    do {
      next = next + 1 == blockDim.x ? 0 : next + 1;
    } while (fibers_[next].ended && next != here);
    if (next == here) {
      std::fprintf(stderr, "thread %u waits for threads that have ended\n", here);
      std::abort();
    }
    threadIdx = next;
    swapcontext(&fibers_[here].context, &fibers_[next].context);
    threadIdx = here;
  }

  static void enter() {
    DeviceOnHost& device = instance();
    (*device.kernel_)();
    device.fibers_[threadIdx.x].ended = true;
    if (++device.ended_ == blockDim.x) setcontext(&device.caller_);
    device.yield();
  }

  void run_cta(unsigned threads) {
    while (fibers_.size() < threads) {
      fibers_.emplace_back();
      fibers_.back().stack = std::make_unique_for_overwrite<char[]>(kStackBytes);
    }
    cta_ = {};
    warps_.assign(threads / 32, {});
    ended_ = 0;
    for (unsigned t = 0; t < threads; ++t) {
      Fiber& fiber = fibers_[t];
      fiber.ended = false;
      getcontext(&fiber.context);
      fiber.context.uc_stack.ss_sp = fiber.stack.get();
      fiber.context.uc_stack.ss_size = kStackBytes;
      fiber.context.uc_link = nullptr;
      makecontext(&fiber.context, &DeviceOnHost::enter, 0);
    }
    threadIdx = 0;
    swapcontext(&caller_, &fibers_[0].context);
  }

  const std::function<void()>* kernel_ = nullptr;
  ucontext_t caller_ = {};
  std::vector<Fiber> fibers_;
  std::vector<Group> warps_;
  Group cta_;
  unsigned ended_ = 0;
};

inline const std::array<std::uint32_t, 32>& meet(Meeting meeting, std::uint32_t value) {
  return DeviceOnHost::instance().meet_warp(meeting, value);
}

template <typename T>
T shuffle(T x, unsigned from) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8);
  std::uint32_t words[sizeof(T) / 4];
  std::memcpy(words, &x, sizeof x);
  for (std::uint32_t& word : words) word = meet(Meeting::shuffle, word)[from];
  std::memcpy(&x, words, sizeof x);
  return x;
}

}  // namespace blockmoe::test

// Of checked builds (kernels/checked.h).
[[noreturn]] inline void __trap() {
  std::abort();
}

inline void __syncthreads() {
  blockmoe::test::DeviceOnHost::instance().meet_cta();
}
inline void __syncwarp() {
  blockmoe::test::meet(blockmoe::test::Meeting::warp, 0);
}
template <typename T>
T __shfl_sync(unsigned, T x, int from) {
  return blockmoe::test::shuffle(x, static_cast<unsigned>(from) % 32);
}
template <typename T>
T __shfl_xor_sync(unsigned, T x, int distance) {
  return blockmoe::test::shuffle(x, threadIdx.x % 32 ^ static_cast<unsigned>(distance));
}
template <typename T>
T __shfl_up_sync(unsigned, T x, unsigned distance, int width) {
  const unsigned lane = threadIdx.x % 32;
  return blockmoe::test::shuffle(x, lane % static_cast<unsigned>(width) >= distance ? lane - distance : lane);
}
inline unsigned __ballot_sync(unsigned, bool yes) {
  const auto& values = blockmoe::test::meet(blockmoe::test::Meeting::vote, yes ? 1U : 0U);
  unsigned ballot = 0;
  for (unsigned lane = 0; lane < 32; ++lane) ballot |= values[lane] << lane;
  return ballot;
}
inline int __all_sync(unsigned mask, bool yes) {
  return __ballot_sync(mask, yes) == 0xffffffffU ? 1 : 0;
}
inline unsigned __reduce_max_sync(unsigned, unsigned x) {
  const auto& values = blockmoe::test::meet(blockmoe::test::Meeting::reduction, x);
  return *std::max_element(values.begin(), values.end());
}
inline int __reduce_add_sync(unsigned, int x) {
  int sum = 0;
  for (const unsigned value : blockmoe::test::meet(blockmoe::test::Meeting::reduction, static_cast<unsigned>(x))) {
    sum += static_cast<int>(value);
  }
  return sum;
}

// Threads take turns, so that nothing comes between.
template <typename T>
void atomicAdd(T* at, T x) {
  *at += x;
}
template <typename T>
void atomicOr(T* at, T x) {
  *at |= x;
}

inline std::uint32_t __float_as_uint(float x) {
  std::uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}
inline float __uint_as_float(std::uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
inline float __fadd_rn(float a, float b) {
  return a + b;
}
inline float __fmul_rn(float a, float b) {
  return a * b;
}
inline float __fmaf_rn(float a, float b, float c) {
  return std::fma(a, b, c);
}
inline int __popc(unsigned x) {
  return __builtin_popcount(x);
}
inline int __ffs(int x) {
  return __builtin_ffs(x);
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
  const std::uint64_t both = std::uint64_t{high} << 32 | low;
  return static_cast<unsigned>(both << shift % 32 >> 32);
}
inline int min(int a, int b) {
  return a < b ? a : b;
}
