#pragma once

#include "cpu/call.hpp"

namespace blockmoe::cpu {

/// What route() does, from the caller's picks: pick_count and picks (expert and weight) of the block's tokens.
void take_picks(const Call& call, const TokenBlock& block);

}  // namespace blockmoe::cpu
