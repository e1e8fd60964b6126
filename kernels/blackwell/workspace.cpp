// workspace.cpp: see workspace.h.
#include "blackwell/workspace.h"

#include <algorithm>

namespace blockmoe::kernels::blackwell {
namespace {

constexpr std::int64_t kAlignment = 256;

std::int64_t round_up(std::int64_t a, std::int64_t multiple) {
  return (a + multiple - 1) / multiple * multiple;
}

// Gives out memory piece after piece; from a null base, none, and counts.
class Pieces {
 public:
  explicit Pieces(void* base) : base_(static_cast<char*>(base)) {}

  template <typename T>
  void take(T** at, std::int64_t count) {
    *at = base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + next_);
    skip(count * static_cast<std::int64_t>(sizeof(T)));
  }
  void take(void** at, std::int64_t bytes) {
    *at = base_ == nullptr ? nullptr : base_ + next_;
    skip(bytes);
  }
  std::int64_t bytes() const { return next_; }

 private:
  void skip(std::int64_t bytes) { next_ = round_up(next_ + bytes, kAlignment); }

  char* base_;
  std::int64_t next_ = 0;
};

void take_tables(Pieces& pieces, std::int64_t experts, ProductTables* t) {
  for (std::int32_t*& count : t->row_count) pieces.take(&count, experts);
  pieces.take(&t->rows, 2);
  pieces.take(&t->scale_pitch, 1);
  for (GroupShape*& shapes : t->shapes) pieces.take(&shapes, experts);
  pieces.take(&t->activations, experts);
  pieces.take(&t->weights, experts);
  pieces.take(&t->outputs, experts);
  pieces.take(&t->activation_scales, experts);
  pieces.take(&t->weight_scales, experts);
  pieces.take(&t->activation_strides, experts);
  pieces.take(&t->weight_strides, experts);
  pieces.take(&t->output_strides, experts);
  pieces.take(&t->activation_scale_layouts, experts);
  pieces.take(&t->weight_scale_layouts, experts);
}

}  // namespace

std::int64_t padded_capacity(const contract::Geometry& g, const plan::Sizes& sizes, std::int32_t row_padding) {
  const std::int64_t experts_with_rows = std::min<std::int64_t>(g.local_experts, sizes.row_capacity);
  return round_up(sizes.row_capacity + experts_with_rows * (row_padding - 1), row_padding);
}

Workspace workspace_at(void* base, const contract::Geometry& g, const plan::Sizes& sizes, std::int32_t row_padding,
                       std::size_t product_bytes) {
  const std::int64_t capacity = padded_capacity(g, sizes, row_padding);
  const std::int64_t row_bytes = g.hidden * (sizes.row_type == plan::RowType::f32 ? 4 : 2);
  Pieces pieces(base);
  Workspace w;
  pieces.take(&w.row_begin, g.local_experts + std::int64_t{1});
  pieces.take(&w.mma_begin, g.local_experts + std::int64_t{1});
  pieces.take(&w.pick_row, sizes.slab_capacity * sizes.picks);
  for (ProductTables& tables : w.tables) take_tables(pieces, g.local_experts, &tables);
  pieces.take(&w.hidden, capacity * g.hidden);
  pieces.take(&w.hidden_scale, capacity * g.hidden_blocks());
  pieces.take(&w.inter, capacity * g.intermediate);
  pieces.take(&w.inter_scale, capacity * g.intermediate_blocks());
  pieces.take(&w.product, static_cast<std::int64_t>(product_bytes));
  pieces.take(&w.gate_up, capacity * std::max(2 * g.intermediate * 4, row_bytes));
  w.rows = w.gate_up;
  w.bytes = static_cast<std::size_t>(pieces.bytes());
  return w;
}

}  // namespace blockmoe::kernels::blackwell
