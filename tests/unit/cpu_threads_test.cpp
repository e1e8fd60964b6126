// cpu_threads_test.cpp: the pool does every index once, whoever calls it.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "cpu/threads.hpp"

namespace blockmoe::test {
namespace {

using cpu::ThreadPool;

TEST(CpuThreads, do_every_index_once) {
  for (const int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.threads(), threads);
    for (const std::int64_t count : {0, 1, 2, 7, 1000}) {
      std::vector<std::atomic<int>> done(static_cast<std::size_t>(count));
      std::atomic<bool> thread_numbers_are_right = true;
      pool.for_each(count, [&](std::int64_t index, int thread) {
        ++done[static_cast<std::size_t>(index)];
        if (thread < 0 || thread >= threads) thread_numbers_are_right = false;
      });
      EXPECT_TRUE(thread_numbers_are_right);
      for (const auto& times : done) EXPECT_EQ(times, 1);
    }
  }
}

TEST(CpuThreads, never_give_one_number_to_two_running_tasks) {
  ThreadPool pool(4);
  std::vector<std::atomic<int>> running(4);
  std::atomic<bool> overlapped = false;
  pool.for_each(500, [&](std::int64_t, int thread) {
    if (running[static_cast<std::size_t>(thread)].fetch_add(1) != 0) overlapped = true;
    std::this_thread::yield();
    running[static_cast<std::size_t>(thread)].fetch_sub(1);
  });
  EXPECT_FALSE(overlapped);
}

TEST(CpuThreads, see_what_the_caller_and_earlier_jobs_wrote) {
  constexpr std::size_t kCount = 100;
  ThreadPool pool(3);
  std::vector<std::int64_t> before(kCount, 0);
  std::vector<std::int64_t> after(kCount, 0);
  for (std::int64_t round = 1; round <= 300; ++round) {
    pool.for_each(kCount, [&](std::int64_t i, int) {
      const auto index = static_cast<std::size_t>(i);
      after[index] = before[index * 37 % kCount] + 1;
    });
    for (const std::int64_t value : after) ASSERT_EQ(value, round);
    before.swap(after);
  }
}

TEST(CpuThreads, serve_callers_in_turns) {
  ThreadPool pool(3);
  std::atomic<std::int64_t> total = 0;
  std::vector<std::thread> callers;
  callers.reserve(4);
  for (int caller = 0; caller < 4; ++caller) {
    callers.emplace_back([&] {
      for (int round = 0; round < 50; ++round) {
        std::atomic<std::int64_t> mine = 0;
        pool.for_each(20, [&](std::int64_t index, int) { mine += index; });
        total += mine;
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(total, 4 * 50 * 190);
}

}  // namespace
}  // namespace blockmoe::test
