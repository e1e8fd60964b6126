#pragma once

#include "cpu/call.hpp"

namespace blockmoe::cpu {

/// Fills pick_count and picks (expert and weight) of the block's tokens.
void route(const Call& call, const TokenBlock& block);

}  // namespace blockmoe::cpu
