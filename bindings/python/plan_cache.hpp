// plan_cache.hpp: plans of calls that bring none.
#pragma once

#include <cstdint>

#include "blockmoe/blockmoe.hpp"

namespace blockmoe::python {

/// A plan for these sizes and at least `tokens` tokens: one that was made before, or a new one. Plans are known by values
/// alone, never by an address, so whatever an old one decided is right for the new call. A few are kept, the latest used;
/// on the CPU each has its threads. From any thread. Throws what require_ok() throws.
Plan plan_for(const Geometry& geometry, std::int64_t tokens, Device device, const Options& options);

/// For a child process after fork(): it lacks the threads of its parent's plans, and waiting for them would not end.
void forget_plans();

}  // namespace blockmoe::python
