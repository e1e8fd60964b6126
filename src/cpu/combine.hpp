#pragma once

#include "cpu/call.hpp"

namespace blockmoe::cpu {

/// The output rows of the chunk's tokens.
void combine(const Call& call, const TokenBlock& block, const Chunk& chunk);

}  // namespace blockmoe::cpu
