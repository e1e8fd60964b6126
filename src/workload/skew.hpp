// skew.hpp: what a Skew (inputs.hpp) does to logits that were drawn.
#pragma once

#include <cstdint>

#include "contract/geometry.h"
#include "workload/inputs.hpp"

namespace blockmoe::workload {

/// Changes `logits` [T, E] in place. Works on the logits' values alone, so routing itself stays what it is: the bias is expected
/// to differ by less than 0.1 between experts.
void skew_logits(float* logits, std::int64_t tokens, const contract::Geometry& geometry,
                 std::int32_t local_expert_offset, const Skew& skew, std::uint64_t seed);

}  // namespace blockmoe::workload
