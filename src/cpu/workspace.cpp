#include "cpu/workspace.hpp"

#include <algorithm>

namespace blockmoe::cpu {
namespace {

constexpr std::size_t kAlignment = 256;
constexpr std::int64_t kBlockTokens = 16384;
constexpr std::int64_t kRowBytesTarget = std::int64_t{640} << 20;  // of all rows of a chunk: 21,800 of DeepSeek-V3
constexpr std::int64_t kFewestRows = kRowBlock;                    // more than any token's picks

// Hands out pieces of memory one after the other; without memory it only counts.
class Carver {
 public:
  explicit Carver(void* base) : base_(static_cast<std::byte*>(base)) {}

  template <typename T>
  T* take(std::int64_t count) {
    std::byte* const here = base_ == nullptr ? nullptr : base_ + used_;
    const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(T);
    used_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
    return reinterpret_cast<T*>(here);
  }

  std::size_t used() const { return used_; }

 private:
  std::byte* base_;
  std::size_t used_ = 0;
};

Scratch carve_scratch(Carver& carver, const Products& products, int terms) {
  const std::int64_t term_rows = std::int64_t{kRowBlock} * terms;
  Scratch s{};
  s.activations = carver.take<std::byte>(term_rows * static_cast<std::int64_t>(products.activation_bytes));
  s.panel = carver.take<std::byte>(static_cast<std::int64_t>(products.panel_bytes));
  s.acc = carver.take<float>(term_rows * kColumns);
  s.activation_scales = carver.take<float>(term_rows);
  s.scales = carver.take<float>(term_rows);
  s.rows = carver.take<const std::uint8_t*>(term_rows);
  return s;
}

Buffers carve(Carver& carver, const contract::Geometry& g, const Sizes& sizes, const Products& products) {
  Buffers b{};
  b.pick_count = carver.take<std::int32_t>(sizes.block_tokens);
  b.picks = carver.take<LocalPick>(sizes.block_tokens * g.max_local_picks());
  b.expert_next = carver.take<std::int32_t>(g.local_experts + 1);
  b.row_to_token = carver.take<std::int32_t>(sizes.max_rows);
  b.row_blocks = carver.take<RowBlock>(sizes.max_blocks);
  b.terms = sizes.terms;
  b.inter = carver.take<std::uint8_t>(sizes.max_rows * sizes.terms * g.intermediate);
  b.inter_scale = carver.take<float>(sizes.max_rows * sizes.terms * g.intermediate_blocks());
  b.expert_output = carver.take<float>(sizes.max_rows * g.hidden);
  Carver one(nullptr);
  carve_scratch(one, products, sizes.terms);
  b.scratch_bytes = one.used();
  b.scratch = carver.take<std::byte>(static_cast<std::int64_t>(b.scratch_bytes) * sizes.threads);
  return b;
}

}  // namespace

Sizes choose_sizes(const contract::Geometry& geometry, std::int64_t max_tokens, int threads,
                   contract::IntermediateType intermediate_type) {
  Sizes sizes;
  sizes.terms = contract::terms_of(intermediate_type);
  const std::int64_t term_bytes =
      geometry.intermediate + geometry.intermediate_blocks() * static_cast<std::int64_t>(sizeof(float));
  const std::int64_t row_bytes = geometry.hidden * static_cast<std::int64_t>(sizeof(float)) + sizes.terms * term_bytes;
  sizes.block_tokens = std::min(max_tokens, kBlockTokens);
  sizes.max_rows =
      std::min(sizes.block_tokens * geometry.max_local_picks(), std::max(kFewestRows, kRowBytesTarget / row_bytes));
  sizes.max_blocks = geometry.local_experts + sizes.max_rows / kRowBlock;
  sizes.threads = threads;
  return sizes;
}

Scratch Buffers::scratch_of(int thread, const Products& products) const {
  Carver carver(scratch + static_cast<std::size_t>(thread) * scratch_bytes);
  return carve_scratch(carver, products, terms);
}

std::size_t workspace_bytes(const contract::Geometry& geometry, const Sizes& sizes, const Products& products) {
  Carver carver(nullptr);
  carve(carver, geometry, sizes, products);
  return carver.used();
}

Buffers place_buffers(const contract::Geometry& geometry, const Sizes& sizes, const Products& products,
                      void* workspace) {
  Carver carver(workspace);
  return carve(carver, geometry, sizes, products);
}

}  // namespace blockmoe::cpu
