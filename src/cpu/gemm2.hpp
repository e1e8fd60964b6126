#pragma once

#include "cpu/call.hpp"

namespace blockmoe::cpu {

/// expert_output of the chunk's rows.
void gemm2(const Call& call, const Chunk& chunk);

}  // namespace blockmoe::cpu
