// ring.cuh: slots of shared memory that producers fill and consumers empty, in order, each side at its own pace.
//
// A slot's `full` barrier completes when every producer has arrived and the announced bytes have landed; its `empty` barrier,
// when every consumer has released it. Each role walks the slots with a position of its own.
#pragma once

#include <cstdint>

#include "ptx/mbarrier.h"

namespace blockmoe::kernels::hopper {

template <int kSlots>
struct Ring {
  std::uint64_t full[kSlots];
  std::uint64_t empty[kSlots];

  // By one thread, before a barrier of all threads that will use the ring.
  __device__ void init(std::uint32_t producer_arrivals, std::uint32_t consumer_arrivals) {
    for (int slot = 0; slot < kSlots; ++slot) {
      ptx::mbarrier_init(&full[slot], producer_arrivals);
      ptx::mbarrier_init(&empty[slot], consumer_arrivals);
    }
    ptx::fence_mbarrier_init();
  }
};

// Slot and parity of the lap over the ring, in one register: both are kept through everything that a role does.
template <int kSlots>
class RingPosition {
 public:
  __device__ __forceinline__ int slot() const { return static_cast<int>(state_ & 0xffffu); }
  __device__ __forceinline__ std::uint32_t parity() const { return state_ >> 16; }
  __device__ __forceinline__ void advance() {
    ++state_;
    if (slot() == kSlots) state_ = (parity() ^ 1u) << 16;
  }

 private:
  std::uint32_t state_ = 0;
};

// acquire(), fill slot(), then publish() or, where copies deliver the bytes, announce() before them; advance().
template <int kSlots>
class RingProducer {
 public:
  __device__ explicit RingProducer(Ring<kSlots>& ring) : ring_(ring) {}

  // Waits until the consumers have emptied the next slot; the first lap finds all slots empty.
  __device__ __forceinline__ int acquire() {
    ptx::mbarrier_wait_parity(&ring_.empty[position_.slot()], position_.parity() ^ 1u);
    return position_.slot();
  }
  __device__ __forceinline__ std::uint64_t* barrier() { return &ring_.full[position_.slot()]; }
  __device__ __forceinline__ void announce(std::uint32_t bytes) { ptx::mbarrier_arrive_expect_tx(barrier(), bytes); }
  __device__ __forceinline__ void publish() { ptx::mbarrier_arrive(barrier()); }
  __device__ __forceinline__ void advance() { position_.advance(); }
  __device__ __forceinline__ std::uint32_t parity() const { return position_.parity(); }

 private:
  Ring<kSlots>& ring_;
  RingPosition<kSlots> position_;
};

// wait(), read slot, release(), advance().
template <int kSlots>
class RingConsumer {
 public:
  __device__ explicit RingConsumer(Ring<kSlots>& ring) : ring_(ring) {}

  // Waits until the next slot is full.
  __device__ __forceinline__ int wait() {
    ptx::mbarrier_wait_parity(&ring_.full[position_.slot()], position_.parity());
    return position_.slot();
  }
  __device__ __forceinline__ int slot() const { return position_.slot(); }
  __device__ __forceinline__ void release() { ptx::mbarrier_arrive(&ring_.empty[position_.slot()]); }
  __device__ __forceinline__ void advance() { position_.advance(); }
  __device__ __forceinline__ std::uint32_t parity() const { return position_.parity(); }

 private:
  Ring<kSlots>& ring_;
  RingPosition<kSlots> position_;
};

}  // namespace blockmoe::kernels::hopper
