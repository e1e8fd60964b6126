// library_call.hpp: a RandomCall through the public API on the CPU.
#pragma once

#include <cstdint>
#include <vector>

#include "blockmoe/blockmoe.hpp"
#include "random_call.hpp"

namespace blockmoe::test {

struct LibraryOutput {
  std::vector<std::uint16_t> memory;  // [T, pitch] bf16 and what stands around it
  std::size_t first = 0;
  std::int64_t pitch = 0;
  std::int64_t tokens = 0;
  std::int64_t width = 0;

  const std::uint16_t* rows() const { return memory.data() + first; }
  const std::uint16_t* row(std::int64_t token) const { return rows() + token * pitch; }
  /// [T, H] without gaps.
  std::vector<std::uint16_t> packed() const;
  /// True when nothing was written but the rows.
  bool surroundings_are_untouched() const;
};

/// Tokens [first, first + count) of the call alone. Fails the running test when the library refuses.
LibraryOutput run_tokens(const RandomCall& call, std::int64_t first, std::int64_t count, int threads = 0);

/// The whole call with picks in place of its logits: both [T, top_k].
LibraryOutput run_prerouted(const RandomCall& call, const std::vector<std::int32_t>& ids,
                            const std::vector<float>& weights);

/// The call's picks over all ranks, both [T, top_k].
struct LibraryPicks {
  std::vector<std::int32_t> ids;
  std::vector<float> weights;
};
LibraryPicks route(const RandomCall& call);

/// The whole call, on `picks` where there are any, into an f32 output: [T, H] without gaps. Fails the running test when
/// anything but the rows was written.
std::vector<float> run_f32(const RandomCall& call, const LibraryPicks* picks = nullptr);

LibraryOutput run_library(const RandomCall& call, int threads = 0);

}  // namespace blockmoe::test
