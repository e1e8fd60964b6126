// call.hpp: what the stages of a call share.
#pragma once

#include <cstdint>

#include "api/backend.hpp"
#include "contract/call.h"
#include "contract/geometry.h"
#include "contract/pruning.h"
#include "cpu/products/products.hpp"
#include "cpu/threads.hpp"
#include "cpu/workspace.hpp"

namespace blockmoe::cpu {

struct Call {
  const contract::Geometry& geometry;
  const contract::Weights& weights;
  const contract::Activations& activations;
  const Products& products;
  ThreadPool& pool;
  Sizes sizes;
  Buffers buffers;
  const contract::Picks* given_picks = nullptr;  // the caller's routing; null: there are logits to route
  contract::Pruning pruning = {};

  LocalPick* picks_of(std::int64_t token_in_block) const {
    return buffers.picks + token_in_block * geometry.max_local_picks();
  }
};

/// Tokens that are routed together; buffers.picks is indexed from `first`.
struct TokenBlock {
  std::int64_t first = 0;
  std::int64_t count = 0;
};

/// Tokens [begin, end) of a block, packed together.
struct Chunk {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  std::int64_t row_blocks = 0;
};

}  // namespace blockmoe::cpu
