// workload_routing.hpp: which local experts the tokens of an Inputs pick, by sorting everything.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "contract/e4m3.h"
#include "contract/routing.h"
#include "workload/inputs.hpp"

namespace blockmoe::testing {

/// Rows of each local expert. For inputs with f32 logits and a bf16 bias.
inline std::vector<std::int64_t> rows_by_local_expert(const workload::Inputs& inputs) {
  const contract::Geometry& g = inputs.geometry;
  const auto size = [](std::int32_t count) { return static_cast<std::size_t>(count); };
  const auto* bias = static_cast<const std::uint16_t*>(inputs.weights.routing_bias);
  std::vector<std::int64_t> rows(size(g.local_experts));
  for (std::int64_t token = 0; token < inputs.tokens(); ++token) {
    const float* logits = static_cast<const float*>(inputs.activations.routing_logits) + token * g.experts;
    std::vector<std::uint64_t> keys(size(g.experts));  // larger is better
    std::vector<std::uint64_t> groups;
    for (std::int32_t group = 0; group < g.n_group; ++group) {
      std::vector<float> scores;
      for (std::int32_t i = 0; i < g.experts_per_group(); ++i) {
        const std::int32_t expert = group * g.experts_per_group() + i;
        scores.push_back(
            contract::choice_score(contract::sigmoid(logits[expert]), contract::bf16_decode(bias[expert])));
        keys[size(expert)] = contract::choice_key(scores.back(), static_cast<std::uint32_t>(expert));
      }
      std::sort(scores.rbegin(), scores.rend());
      const float second = scores.size() > 1 ? scores[1] : 0.0F;
      groups.push_back(
          contract::choice_key(contract::group_score(scores[0], second), static_cast<std::uint32_t>(group)));
    }
    std::sort(groups.rbegin(), groups.rend());
    std::vector<std::uint64_t> candidates;
    for (std::int32_t i = 0; i < g.topk_group; ++i) {
      const auto group = static_cast<std::ptrdiff_t>(contract::number_of_key(groups[size(i)]));
      const auto first = keys.begin() + group * g.experts_per_group();
      candidates.insert(candidates.end(), first, first + g.experts_per_group());
    }
    std::sort(candidates.rbegin(), candidates.rend());
    for (std::int32_t i = 0; i < g.top_k; ++i) {
      const std::int64_t local =
          static_cast<std::int64_t>(contract::number_of_key(candidates[size(i)])) - inputs.weights.local_expert_offset;
      if (local >= 0 && local < g.local_experts) ++rows[static_cast<std::size_t>(local)];
    }
  }
  return rows;
}

}  // namespace blockmoe::testing
