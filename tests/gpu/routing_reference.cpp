#include "routing_reference.hpp"

#include <algorithm>
#include <cmath>
#include <thread>

#include "contract/e4m3.h"
#include "contract/routing.h"

namespace blockmoe::test {
namespace {

float value_at(const void* data, contract::FloatType type, std::int64_t index) {
  return type == contract::FloatType::f32 ? static_cast<const float*>(data)[index]
                                          : contract::bf16_decode(static_cast<const std::uint16_t*>(data)[index]);
}

std::vector<std::uint32_t> largest(std::vector<std::uint64_t> keys, std::int32_t count) {
  std::partial_sort(keys.begin(), keys.begin() + count, keys.end(), std::greater<>());
  std::vector<std::uint32_t> numbers;
  numbers.reserve(static_cast<std::size_t>(count));
  for (std::int32_t i = 0; i < count; ++i)
    numbers.push_back(contract::number_of_key(keys[static_cast<std::size_t>(i)]));
  return numbers;
}

float score_of_group(std::vector<float> scores) {
  std::sort(scores.begin(), scores.end(), std::greater<>());
  return scores.size() == 1 ? scores[0] : contract::group_score(scores[0], scores[1]);
}

}  // namespace

std::uint32_t kept_by_sorting(const contract::Pruning& rule, const contract::TokenPicks& picks) {
  float sum = 0.0F;
  std::vector<std::int32_t> left;
  for (std::int32_t j = 0; j < picks.count; ++j) {
    if ((picks.picked >> j & 1U) != 0) sum += std::abs(picks.weight[j]);
    if ((picks.local >> j & 1U) != 0) left.push_back(j);
  }
  const float least = rule.min_weight_share * sum;
  std::erase_if(left, [&](std::int32_t j) { return std::abs(picks.weight[j]) < least; });
  // NaN above all numbers, one of more bits above one of fewer.
  const auto is_larger = [](float x, float y) {
    if (std::isnan(x) || std::isnan(y)) return contract::bits_of(x) > contract::bits_of(y);
    return x > y;
  };
  std::sort(left.begin(), left.end(), [&](std::int32_t a, std::int32_t b) {
    const float x = std::abs(picks.weight[a]);
    const float y = std::abs(picks.weight[b]);
    return is_larger(x, y) || (!is_larger(y, x) && a < b);
  });
  if (rule.max_local_picks > 0 && left.size() > static_cast<std::size_t>(rule.max_local_picks)) {
    left.resize(static_cast<std::size_t>(rule.max_local_picks));
  }
  std::uint32_t kept = 0;
  for (const std::int32_t j : left) kept |= 1U << j;
  return kept;
}

std::vector<LocalPick> reference_picks(const contract::Geometry& g, const contract::Weights& w,
                                       const contract::Activations& a, std::int64_t token,
                                       const contract::Pruning& pruning) {
  std::vector<float> mixing;
  std::vector<float> choice;
  for (std::int32_t e = 0; e < g.experts; ++e) {
    const float logit = value_at(a.routing_logits, a.routing_logits_type, token * a.routing_logits_pitch + e);
    const float bias = w.routing_bias == nullptr ? 0.0F : value_at(w.routing_bias, w.routing_bias_type, e);
    mixing.push_back(contract::mixing_score(logit));
    choice.push_back(contract::choice_score(contract::sigmoid(logit), bias));
  }
  const std::int32_t size = g.experts_per_group();
  std::vector<std::uint64_t> groups;
  for (std::int32_t group = 0; group < g.n_group; ++group) {
    const auto begin = choice.begin() + group * size;
    groups.push_back(contract::choice_key(score_of_group({begin, begin + size}), static_cast<std::uint32_t>(group)));
  }
  std::vector<std::uint64_t> candidates;
  for (const std::uint32_t group : largest(groups, g.topk_group)) {
    const std::uint32_t first = group * static_cast<std::uint32_t>(size);
    for (std::uint32_t e = first; e < first + static_cast<std::uint32_t>(size); ++e) {
      candidates.push_back(contract::choice_key(choice[e], e));
    }
  }
  const std::vector<std::uint32_t> picks = largest(candidates, g.top_k);
  float sum = 0.0F;
  for (const std::uint32_t e : picks) sum = contract::rn::add(sum, mixing[e]);
  std::vector<float> weights;
  std::uint32_t rows = 0;
  for (const std::uint32_t e : picks) {
    const std::int64_t number = std::int64_t{e} - w.local_expert_offset;
    if (number >= 0 && number < g.local_experts) rows |= 1U << weights.size();
    weights.push_back(contract::routing_weight(mixing[e], sum, w.routed_scaling_factor));
  }
  rows = kept_by_sorting(pruning, {weights.data(), g.top_k, ~0U, rows});
  std::vector<LocalPick> local;
  for (std::size_t j = 0; j < picks.size(); ++j) {
    if ((rows >> j & 1U) == 0) continue;
    const std::int64_t number = std::int64_t{picks[j]} - w.local_expert_offset;
    local.push_back({static_cast<std::int32_t>(number), contract::bits_of(weights[j])});
  }
  return local;
}

std::vector<std::vector<LocalPick>> reference_routing(const contract::Geometry& g, const contract::Weights& w,
                                                      const contract::Activations& a,
                                                      const contract::Pruning& pruning) {
  std::vector<std::vector<LocalPick>> all(static_cast<std::size_t>(a.tokens));
  const std::int64_t workers = std::max(1U, std::thread::hardware_concurrency());
  std::vector<std::thread> threads;
  threads.reserve(static_cast<std::size_t>(workers));
  for (std::int64_t worker = 0; worker < workers; ++worker) {
    threads.emplace_back([&, worker] {
      for (std::int64_t t = worker; t < a.tokens; t += workers)
        all[static_cast<std::size_t>(t)] = reference_picks(g, w, a, t, pruning);
    });
  }
  for (std::thread& thread : threads) thread.join();
  return all;
}

}  // namespace blockmoe::test
