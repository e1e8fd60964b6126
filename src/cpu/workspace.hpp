// workspace.hpp: how a call is cut into pieces, and what each piece keeps in the caller's workspace.
//
// Tokens are routed in blocks of at most `block_tokens`. Within a block, chunks of tokens whose local picks come to at most
// `max_rows` rows go through pack, gemm1, gemm2 and combine, so that the workspace has a ceiling whatever the routing.
#pragma once

#include <cstddef>
#include <cstdint>

#include "contract/geometry.h"
#include "contract/intermediate.h"
#include "cpu/products/products.hpp"

namespace blockmoe::cpu {

inline constexpr int kRowBlock = 256;  // rows of an expert that a decoded panel meets
inline constexpr int kColumns = 256;   // columns of a unit of work: 128 up and 128 gate, or 256 of the output
static_assert(kRowBlock % kRowMultiple == 0);

struct Sizes {
  std::int64_t block_tokens = 0;
  std::int64_t max_rows = 0;    // of a chunk
  std::int64_t max_blocks = 0;  // row blocks of a chunk
  int threads = 1;
  int terms = 1;  // of an intermediate value
};

Sizes choose_sizes(const contract::Geometry& geometry, std::int64_t max_tokens, int threads,
                   contract::IntermediateType intermediate_type = contract::IntermediateType::e4m3);

/// A token's pick on this rank.
struct LocalPick {
  std::int32_t expert;  // local number
  float weight;
  std::int32_t row;  // in the chunk; set by pack
};

/// Consecutive rows of one expert, at most kRowBlock.
struct RowBlock {
  std::int32_t expert;  // local number
  std::int32_t first;
  std::int32_t count;
};

/// One thread's working memory.
struct Scratch {
  std::byte* activations;     // [kRowBlock, terms] decoded rows of 128
  std::byte* panel;           // a decoded panel
  float* acc;                 // [kRowBlock, terms, kColumns]
  float* activation_scales;   // [kRowBlock, terms]
  float* scales;              // [kRowBlock, terms]
  const std::uint8_t** rows;  // [kRowBlock, terms]
};

struct Buffers {
  std::int32_t* pick_count;    // [block_tokens]
  LocalPick* picks;            // [block_tokens, max_local_picks], in pick order
  std::int32_t* expert_next;   // [L + 1], pack's own
  std::int32_t* row_to_token;  // [max_rows], token of the call
  RowBlock* row_blocks;        // [max_blocks]
  std::uint8_t* inter;         // [max_rows, terms, I] e4m3
  float* inter_scale;          // [I/128, max_rows, terms]
  float* expert_output;        // [max_rows, H]
  std::byte* scratch;          // [threads] of scratch_bytes
  std::size_t scratch_bytes;
  int terms;  // as of Sizes

  Scratch scratch_of(int thread, const Products& products) const;
};

std::size_t workspace_bytes(const contract::Geometry& geometry, const Sizes& sizes, const Products& products);
Buffers place_buffers(const contract::Geometry& geometry, const Sizes& sizes, const Products& products,
                      void* workspace);

}  // namespace blockmoe::cpu
