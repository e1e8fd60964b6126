// geometry.h: the sizes of one layer, and the limits within which every backend works.
#pragma once

#include <cstdint>

namespace blockmoe::contract {

inline constexpr std::int64_t kScaleBlock =
    128;  // values of K that share an activation scale; side of a weight scale's block
inline constexpr std::int32_t kMaxTopK = 32;
inline constexpr std::int32_t kMaxExperts = 1024;
inline constexpr std::int64_t kMaxWidth = 65536;  // of hidden and of intermediate
// Bytes from row to row of the activations: a row of a slab begins within 32 bits, which kernels add to an address.
inline constexpr std::int64_t kMaxHiddenPitch = 1 << 18;
inline constexpr std::int64_t kMaxTokens = 1 << 30;

// Names in brackets are those of the tensors' shapes everywhere in the project.
struct Geometry {
  std::int64_t hidden = 7168;        // [H] multiple of 128
  std::int64_t intermediate = 2048;  // [I] multiple of 128
  std::int32_t experts = 256;        // [E] over all ranks
  std::int32_t local_experts = 32;   // [L] on this rank
  std::int32_t top_k = 8;            // picks a token
  std::int32_t n_group = 8;          // groups that the experts stand in; divides E
  std::int32_t topk_group = 4;       // groups kept a token

  std::int32_t experts_per_group() const { return experts / n_group; }
  std::int64_t hidden_blocks() const { return hidden / kScaleBlock; }
  std::int64_t intermediate_blocks() const { return intermediate / kScaleBlock; }
  // Picks a token can have on this rank.
  std::int32_t max_local_picks() const { return top_k < local_experts ? top_k : local_experts; }

  friend bool operator==(const Geometry& a, const Geometry& b) {
    return a.hidden == b.hidden && a.intermediate == b.intermediate && a.experts == b.experts &&
           a.local_experts == b.local_experts && a.top_k == b.top_k && a.n_group == b.n_group &&
           a.topk_group == b.topk_group;
  }
};

}  // namespace blockmoe::contract
