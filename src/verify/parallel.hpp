// parallel.hpp: items of work shared among threads.
#pragma once

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace blockmoe::verify {

/// Threads to use: as asked, or as many as the process may run on.
inline int thread_count(int asked) {
  if (asked > 0) return asked;
  cpu_set_t set;
  CPU_ZERO(&set);
  return sched_getaffinity(0, sizeof set, &set) == 0 ? std::max(1, CPU_COUNT(&set)) : 1;
}

/// Calls work(item) once for each item in [0, items), in no order. The results must not depend on the order.
template <typename Work>
void parallel_for(std::int64_t items, int threads, const Work& work) {
  std::atomic<std::int64_t> next{0};
  const auto worker = [&] {
    for (std::int64_t item = next++; item < items; item = next++) work(item);
  };
  const auto helpers = std::min<std::int64_t>(thread_count(threads), items) - 1;
  std::vector<std::jthread> pool;
  pool.reserve(static_cast<std::size_t>(std::max<std::int64_t>(helpers, 0)));
  for (std::int64_t i = 0; i < helpers; ++i) pool.emplace_back(worker);
  worker();
}

}  // namespace blockmoe::verify
