// given_picks.hpp: calls that their caller has routed, on the host, and by brute force what is to be taken of them.
#pragma once

#include <cstdint>
#include <vector>

#include "contract/call.h"
#include "contract/geometry.h"
#include "contract/pruning.h"

namespace blockmoe::test {

/// The caller's picks in host memory. Gaps between rows hold what must not be looked at: an expert that exists, and NaN.
struct GivenPicks {
  GivenPicks(std::int64_t tokens, std::int32_t top_k, std::int64_t extra_pitch = 0);

  std::int64_t tokens;
  std::int32_t top_k;
  std::int64_t experts_pitch;
  std::int64_t weights_pitch;
  std::vector<std::int32_t> experts;  // [T, experts_pitch]
  std::vector<float> weights;         // [T, weights_pitch]

  std::int32_t& expert(std::int64_t token, std::int32_t pick) { return experts[at(token, experts_pitch, pick)]; }
  std::int32_t expert(std::int64_t token, std::int32_t pick) const { return experts[at(token, experts_pitch, pick)]; }
  float& weight(std::int64_t token, std::int32_t pick) { return weights[at(token, weights_pitch, pick)]; }
  float weight(std::int64_t token, std::int32_t pick) const { return weights[at(token, weights_pitch, pick)]; }

 private:
  static std::size_t at(std::int64_t token, std::int64_t pitch, std::int32_t pick) {
    return static_cast<std::size_t>(token * pitch + pick);
  }
};

/// The picks that the routed call makes, over all ranks; its tensors are on the host.
GivenPicks picks_of_routing(const contract::Geometry& geometry, const contract::Weights& weights,
                            const contract::Activations& activations, std::int64_t extra_pitch = 0);

/// Local experts and others, repeats, numbers that no expert has (-1, E, the least and the largest int32, random bits), and
/// weights of any bits.
GivenPicks hostile_picks(const contract::Geometry& geometry, std::int32_t local_expert_offset, std::int64_t tokens,
                         std::uint32_t seed, std::int64_t extra_pitch = 0);

/// The same with -1 and a NaN for each pick that is to be skipped.
GivenPicks without_skipped(const GivenPicks& given, const contract::Geometry& geometry,
                           std::int32_t local_expert_offset);

/// What a launch left in the workspace, before pack.
struct TakenPicks {
  std::vector<std::int32_t> pick_expert;   // [T, P]
  std::vector<float> pick_weight;          // [T, P]
  std::vector<std::uint8_t> block_counts;  // [B, counts_pitch(L)]
  std::vector<std::int32_t> block_rows;    // [B]
};

/// Whether it is what should be taken of `given`, as stages/layout.h wants it; fails the test where it isn't.
void expect_taken(const GivenPicks& given, const contract::Geometry& geometry, std::int32_t local_expert_offset,
                  const TakenPicks& found, const contract::Pruning& pruning = {});

}  // namespace blockmoe::test
