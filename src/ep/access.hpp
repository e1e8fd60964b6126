// access.hpp: parts of a call over several ranks, for measurements and tests.
#pragma once

#include <cstdint>

#include "blockmoe/expert_parallel.hpp"

namespace blockmoe::ep {

/// As bits. What the others leave in the workspace must be there from a whole call on the same arguments.
enum Stage : std::uint32_t { kRoute = 1, kExchange = 2, kProducts = 4, kReturn = 8, kSum = 16, kAllStages = 31 };

struct Access {
  /// BoundEpGroup::run for some stages alone.
  static Status run_stages(const BoundEpGroup& bound, const Activations& activations, const Tensor& output,
                           const Workspace& workspace, Stream stream, std::int64_t most_tokens, std::uint32_t stages);
};

}  // namespace blockmoe::ep
