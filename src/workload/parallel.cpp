#include "workload/parallel.hpp"

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

namespace blockmoe::workload {

int usable_threads() {
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

void parallel_for(std::int64_t count, std::int64_t grain, int threads,
                  const std::function<void(std::int64_t, std::int64_t)>& body) {
  const std::int64_t pieces = (count + grain - 1) / grain;
  std::atomic<std::int64_t> next = 0;
  const auto work = [&] {
    for (std::int64_t piece = next++; piece < pieces; piece = next++) {
      body(piece * grain, std::min(count, (piece + 1) * grain));
    }
  };
  const std::int64_t wanted = std::min<std::int64_t>(threads > 0 ? threads : usable_threads(), pieces);
  std::vector<std::thread> helpers;
  for (std::int64_t i = 1; i < wanted; ++i) helpers.emplace_back(work);
  work();
  for (std::thread& helper : helpers) helper.join();
}

}  // namespace blockmoe::workload
