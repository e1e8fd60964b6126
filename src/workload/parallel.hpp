// parallel.hpp: a loop over independent pieces on several threads.
#pragma once

#include <cstdint>
#include <functional>

namespace blockmoe::workload {

/// Threads that the process may run on (its affinity), at least 1.
int usable_threads();

/// Calls body(begin, end) for consecutive pieces of [0, count), each at most `grain` long, on up to `threads` threads (0 = usable_threads()),
/// the caller's among them. Which thread gets which piece is open; the pieces are always the same.
void parallel_for(std::int64_t count, std::int64_t grain, int threads,
                  const std::function<void(std::int64_t begin, std::int64_t end)>& body);

}  // namespace blockmoe::workload
