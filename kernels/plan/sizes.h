// sizes.h: how a call is cut so that its workspace has a ceiling whatever the routing, and where in the workspace
// everything lies. Host C++17.
//
// The host never learns how many rows (a token's local picks, over all tokens) a call has, and there may be up to
// min(top_k, L) a token. Two cuts bound them:
//
//   slab   tokens [begin, end), known to the host. Routed and packed together. A T up to slab_capacity is one slab.
//   chunk  consecutive token blocks (kTokenBlock tokens) of a slab whose rows fit row_capacity. Found on the device by a
//          prefix sum of the blocks' rows; gemm1, gemm2 and combine are launched max_chunks times a slab, and a chunk
//          that turned out empty ends at once.
//
// With as many rows as a uniform router gives (and half as many again) a slab is one chunk.
#pragma once

#include <cstddef>
#include <cstdint>

#include "contract/geometry.h"
#include "contract/intermediate.h"

namespace blockmoe::kernels::plan {

inline constexpr std::int32_t kTokenBlock = 32;        // tokens a bit mask holds; chunks begin at multiples of it
inline constexpr std::int32_t kMaxChunks = 8;          // of a slab
inline constexpr std::int64_t kMaxSlabTokens = 16384;  // pack's work grows with the square of a slab
// Bytes for rows. With the rest, DeepSeek-V3's layer needs at most 417 MB at any T, and on hopper 452: cut tiles have sums.
inline constexpr std::int64_t kRowBudget = 416'000'000;

// How gemm2's rows reach the combine. A row is written and read once: 8 H bytes in f32, 4 H in 16 bits. Few rows stay in L2 and cost
// nothing in f32. DeepSeek-V3's layer on an H200, us, in f32 and in bf16: T = 512 335 and 335, 901 350 and 342, 1024 350 and 339, 2048
// 395 and 372. bf16 costs a rounding: relative L2 of the output 0.0023 where the rest is exact, in f32 0.0017. f16, with an exponent for
// every 16 columns (stages/short_rows.cuh), costs next to none.
// An f32 output's rows travel as a bf16 one's do: rounding them gives the bf16 output's very bits.
inline constexpr std::int64_t kF32RowBytes = 15'000'000;
enum class RowType : std::int32_t { f32, bf16, f16 };
inline constexpr std::int32_t kShortColumns = 16;  // of a row in f16 that share an exponent

// Sizes of a call of `tokens`, by sizes_of(). All are worst cases but slab_tokens.
struct Sizes {
  std::int64_t slab_capacity = 0;  // tokens that a slab's arrays hold; a multiple of kTokenBlock
  std::int64_t slab_tokens = 0;    // tokens of every slab but the last, at most slab_capacity; likewise
  std::int64_t slabs = 0;
  std::int32_t picks = 0;         // [P] local picks a token can have
  std::int64_t row_capacity = 0;  // [R] rows of a chunk; a multiple of 16
  std::int32_t max_chunks = 0;    // of a slab
  RowType row_type = RowType::f32;
  std::int32_t terms = 1;  // of an intermediate value
};

// `many_rows`: the type of rows that are too many for f32.
Sizes sizes_of(const contract::Geometry& geometry, std::int64_t tokens, RowType many_rows = RowType::bf16,
               contract::IntermediateType intermediate_type = contract::IntermediateType::e4m3);

// The most tokens whose rows stay in f32. Within a row type, what a call needs grows with its tokens.
std::int64_t most_f32_tokens(const contract::Geometry& geometry);

// Byte offsets in the workspace, each a multiple of 256. Shapes and meaning: stages/layout.h.
struct Offsets {
  std::size_t pick_expert = 0, pick_weight = 0, pick_row = 0;
  std::size_t block_counts = 0, block_rows = 0;
  std::size_t chunks = 0, expert_begin = 0, row_to_token = 0;
  std::size_t inter = 0, inter_scale = 0, rows = 0, row_exponent = 0;
  std::size_t bytes = 0;
};

Offsets offsets_of(const contract::Geometry& geometry, const Sizes& sizes);

// What any call of up to `max_tokens` needs.
std::size_t workspace_bytes(const contract::Geometry& geometry, std::int64_t max_tokens,
                            RowType many_rows = RowType::bf16,
                            contract::IntermediateType intermediate_type = contract::IntermediateType::e4m3);

}  // namespace blockmoe::kernels::plan
