// sizes.cpp: see sizes.h.
#include "plan/sizes.h"

#include <algorithm>

#include "stages/layout.h"

namespace blockmoe::kernels::plan {
namespace {

constexpr std::int64_t kRowsMultiple = 16;

std::int64_t divide_up(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}
std::int64_t round_up(std::int64_t a, std::int64_t multiple) {
  return divide_up(a, multiple) * multiple;
}
std::int64_t round_down(std::int64_t a, std::int64_t multiple) {
  return a / multiple * multiple;
}

std::int64_t exponent_bytes(const contract::Geometry& g, RowType type) {
  return type != RowType::f16 ? 0 : g.hidden / kShortColumns;
}

std::int64_t inter_bytes(const contract::Geometry& g, std::int32_t terms) {
  return g.intermediate * terms;
}
std::int64_t inter_scale_bytes(const contract::Geometry& g, std::int32_t terms) {
  return g.intermediate_blocks() * 4 * terms;
}

std::int64_t row_bytes(const contract::Geometry& g, RowType type, std::int32_t terms) {
  return inter_bytes(g, terms) + inter_scale_bytes(g, terms) + g.hidden * (type == RowType::f32 ? 4 : 2) +
         exponent_bytes(g, type);
}

// Rows that the budget pays for: at least kTokenBlock * kMaxTopK at any geometry within the limits.
std::int64_t rows_in_budget(const contract::Geometry& g, RowType type, std::int32_t terms) {
  return round_down(kRowBudget / row_bytes(g, type, terms), 128);
}

// Tokens, in whole blocks, whose rows fit `rows` with half as many to spare when the router spreads its picks evenly over
// all experts.
std::int64_t tokens_of_ordinary_routing(const contract::Geometry& g, std::int64_t rows) {
  const std::int64_t picks = static_cast<std::int64_t>(g.top_k) * g.local_experts;  // a token's, times E
  return std::max<std::int64_t>(round_down(rows * 2 * g.experts / (3 * picks), kTokenBlock), kTokenBlock);
}

// A chunk ends before the token block that does not fit, so that all but the last hold at least this many rows.
std::int64_t rows_of_a_full_chunk(std::int64_t capacity, std::int64_t picks) {
  return capacity - kTokenBlock * picks + 1;
}

}  // namespace

// By ordinary routing they fill kF32RowBytes, and they fit the budget.
std::int64_t most_f32_tokens(const contract::Geometry& g) {
  const std::int64_t bytes_times_experts = g.hidden * 4 * g.top_k * g.local_experts;  // a token's
  const std::int64_t in_f32 = round_down(kF32RowBytes * g.experts / bytes_times_experts, kTokenBlock);
  return std::min(std::max<std::int64_t>(in_f32, kTokenBlock),
                  tokens_of_ordinary_routing(g, rows_in_budget(g, RowType::f32, 1)));
}

Sizes sizes_of(const contract::Geometry& g, std::int64_t tokens, RowType many_rows,
               contract::IntermediateType intermediate_type) {
  Sizes s;
  s.terms = contract::terms_of(intermediate_type);
  s.picks = g.max_local_picks();
  s.row_type = tokens <= most_f32_tokens(g) ? RowType::f32 : many_rows;

  const std::int64_t rows = rows_in_budget(g, s.row_type, s.terms);
  const std::int64_t one_chunk = tokens_of_ordinary_routing(g, rows);
  const std::int64_t all_chunks = kMaxChunks * rows_of_a_full_chunk(rows, s.picks) / s.picks;
  const std::int64_t largest_slab =
      std::max<std::int64_t>(round_down(std::min({one_chunk, all_chunks, kMaxSlabTokens}), kTokenBlock), kTokenBlock);
  s.slab_capacity = std::min(round_up(tokens, kTokenBlock), largest_slab);
  s.slabs = tokens == 0 ? 0 : divide_up(tokens, s.slab_capacity);
  s.slab_tokens = tokens == 0 ? 0 : round_up(divide_up(tokens, s.slabs), kTokenBlock);

  const std::int64_t worst_rows = std::min(tokens, s.slab_capacity) * s.picks;
  s.row_capacity = std::min(rows, round_up(worst_rows, kRowsMultiple));
  s.max_chunks = worst_rows <= s.row_capacity
                     ? 1
                     : static_cast<std::int32_t>(divide_up(worst_rows, rows_of_a_full_chunk(s.row_capacity, s.picks)));
  return s;
}

Offsets offsets_of(const contract::Geometry& g, const Sizes& s) {
  constexpr std::int64_t kAlignment = 256;
  std::int64_t next = 0;
  const auto place = [&next](std::int64_t bytes) {
    const std::int64_t at = next;
    next = round_up(next + bytes, kAlignment);
    return static_cast<std::size_t>(at);
  };
  const std::int64_t slots = s.slab_capacity * s.picks;
  const std::int64_t blocks = s.slab_capacity / kTokenBlock;
  Offsets o;
  o.pick_expert = place(slots * 4);
  o.pick_weight = place(slots * 4);
  o.pick_row = place(slots * 4);
  o.block_counts = place(blocks * stages::counts_pitch(g.local_experts));
  o.block_rows = place(blocks * 4);
  o.chunks = place(s.max_chunks * static_cast<std::int64_t>(sizeof(stages::Chunk)));
  o.expert_begin = place(s.max_chunks * (g.local_experts + std::int64_t{1}) * 4);
  o.row_to_token = place(slots * 4);
  o.inter = place(s.row_capacity * inter_bytes(g, s.terms));
  o.inter_scale = place(s.row_capacity * inter_scale_bytes(g, s.terms));
  o.rows = place(s.row_capacity * g.hidden * (s.row_type == RowType::f32 ? 4 : 2));
  o.row_exponent = place(s.row_capacity * exponent_bytes(g, s.row_type));
  o.bytes = static_cast<std::size_t>(next);
  return o;
}

std::size_t workspace_bytes(const contract::Geometry& g, std::int64_t max_tokens, RowType many_rows,
                            contract::IntermediateType intermediate_type) {
  // Within a row type the need grows with T; the largest call of each type decides.
  const auto need = [&](std::int64_t tokens) {
    return offsets_of(g, sizes_of(g, tokens, many_rows, intermediate_type)).bytes;
  };
  return std::max(need(max_tokens), need(std::min(max_tokens, most_f32_tokens(g))));
}

}  // namespace blockmoe::kernels::plan
