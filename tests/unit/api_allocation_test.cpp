// An accepted call costs no allocation on the host: run() stands in a decode step's launch path.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "api_call.hpp"

namespace {

std::atomic<int> allocations = 0;

}  // namespace

void* operator new(std::size_t bytes) {
  ++allocations;
  if (void* memory = std::malloc(bytes)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}

namespace blockmoe::test {
namespace {

TEST(ApiAllocation, an_accepted_call_makes_none) {
  reset_fakes();
  const Call call;
  const Result<BoundPlan> bound = call.bind();
  ASSERT_TRUE(bound.ok()) << bound.status().message();
  const int before = allocations;
  const Status status = bound.value().run(call.activations, call.output, call.workspace);
  EXPECT_EQ(allocations, before);
  EXPECT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(fakes().runs, 1);
}

TEST(ApiAllocation, is_counted) {
  const Call call;
  const int before = allocations;
  const Status status = Plan::create(Geometry(), -1, call.device).status();  // its message is made on the heap
  EXPECT_FALSE(status.ok());
  EXPECT_GT(allocations, before);
}

}  // namespace
}  // namespace blockmoe::test
