#pragma once

#include "cpu/call.hpp"

namespace blockmoe::cpu {

/// Takes as many of the block's tokens from `begin` on as fit a chunk, and orders their picks by (expert, token): fills
/// row_to_token, row_blocks and the row of each pick.
Chunk pack(const Call& call, const TokenBlock& block, std::int64_t begin);

}  // namespace blockmoe::cpu
