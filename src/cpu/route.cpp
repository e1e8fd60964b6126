// route.cpp: which experts each token picks, and with what weight. Arithmetic and tie rules: kernels/contract/routing.h.
//
//   routing_logits  [T, E]  f32 or bf16, pitched        routing_bias  [E]  f32, bf16 or absent
//   picks           [tokens of the block, max_local_picks] out, those on this rank, in pick order
//
// Scores are computed for vectors of experts (lanes.cpp); choosing is scalar: an ordered list of top_k keys.
#include "cpu/route.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "contract/e4m3.h"
#include "contract/pruning.h"
#include "contract/routing.h"
#include "cpu/lanes.hpp"

namespace blockmoe::cpu {
namespace {

constexpr std::int64_t kTokensPerTask = 32;

using PerExpert = std::array<float, contract::kMaxExperts>;

void load_floats(const void* data, contract::FloatType type, std::int64_t offset, std::int32_t count, float* out) {
  if (type == contract::FloatType::f32) {
    std::memcpy(out, static_cast<const float*>(data) + offset, static_cast<std::size_t>(count) * sizeof(float));
    return;
  }
  const auto* values = static_cast<const std::uint16_t*>(data) + offset;
  std::transform(values, values + count, out, [](std::uint16_t x) { return contract::bf16_decode(x); });
}

// The largest keys seen so far, the largest first; zeros stand for none.
template <std::size_t kMost>
class Best {
 public:
  explicit Best(std::int32_t count) : count_(count) { std::fill_n(keys_.begin(), count, 0); }

  void offer(std::uint64_t key) {
    if (key <= keys_[static_cast<std::size_t>(count_ - 1)]) return;
    std::int32_t at = count_ - 1;
    for (; at > 0 && keys_[static_cast<std::size_t>(at - 1)] < key; --at) {
      keys_[static_cast<std::size_t>(at)] = keys_[static_cast<std::size_t>(at - 1)];
    }
    keys_[static_cast<std::size_t>(at)] = key;
  }

  std::int32_t number(std::int32_t place) const {
    return static_cast<std::int32_t>(contract::number_of_key(keys_[static_cast<std::size_t>(place)]));
  }

 private:
  std::array<std::uint64_t, kMost> keys_;  // [count_]
  std::int32_t count_;
};

float score_of_group(const float* choice, std::int32_t experts) {
  if (experts == 1) return choice[0];
  float largest = std::max(choice[0], choice[1]);
  float second = std::min(choice[0], choice[1]);
  for (std::int32_t e = 2; e < experts; ++e) {
    second = std::max(second, std::min(largest, choice[e]));
    largest = std::max(largest, choice[e]);
  }
  return contract::group_score(largest, second);
}

Best<contract::kMaxExperts> choose_groups(const contract::Geometry& g, const PerExpert& choice) {
  const std::int32_t size = g.experts_per_group();
  Best<contract::kMaxExperts> best(g.topk_group);
  for (std::int32_t group = 0; group < g.n_group; ++group) {
    const float score = score_of_group(choice.data() + group * size, size);
    best.offer(contract::choice_key(score, static_cast<std::uint32_t>(group)));
  }
  return best;
}

Best<contract::kMaxTopK> choose_experts(const contract::Geometry& g, const PerExpert& choice) {
  const std::int32_t size = g.experts_per_group();
  const auto groups = choose_groups(g, choice);
  Best<contract::kMaxTopK> best(g.top_k);
  for (std::int32_t i = 0; i < g.topk_group; ++i) {
    const std::int32_t begin = groups.number(i) * size;
    for (std::int32_t e = begin; e < begin + size; ++e) {
      best.offer(contract::choice_key(choice[static_cast<std::size_t>(e)], static_cast<std::uint32_t>(e)));
    }
  }
  return best;
}

PerExpert load_bias(const contract::Geometry& g, const contract::Weights& w) {
  PerExpert bias{};
  if (w.routing_bias != nullptr) load_floats(w.routing_bias, w.routing_bias_type, 0, g.experts, bias.data());
  return bias;
}

// The token's picks over all ranks: experts and weights [top_k] out.
void pick_experts(const contract::Geometry& g, const contract::Activations& a, const PerExpert& bias, float factor,
                  std::int64_t token, std::int32_t* experts, float* weights) {
  PerExpert logits;
  PerExpert mixing;
  PerExpert choice;
  load_floats(a.routing_logits, a.routing_logits_type, token * a.routing_logits_pitch, g.experts, logits.data());
  score_experts(logits.data(), bias.data(), g.experts, mixing.data(), choice.data());

  const auto best = choose_experts(g, choice);
  float sum = 0.0f;
  for (std::int32_t i = 0; i < g.top_k; ++i) {
    sum = contract::rn::add(sum, mixing[static_cast<std::size_t>(best.number(i))]);
  }
  for (std::int32_t i = 0; i < g.top_k; ++i) {
    experts[i] = best.number(i);
    weights[i] = contract::routing_weight(mixing[static_cast<std::size_t>(experts[i])], sum, factor);
  }
}

void route_token(const Call& call, const PerExpert& bias, std::int64_t token, LocalPick* picks, std::int32_t* count) {
  const contract::Geometry& g = call.geometry;
  std::array<std::int32_t, contract::kMaxTopK> experts;
  std::array<float, contract::kMaxTopK> weights;
  pick_experts(g, call.activations, bias, call.weights.routed_scaling_factor, token, experts.data(), weights.data());
  std::uint32_t rows = 0;
  for (std::int32_t i = 0; i < g.top_k; ++i) {
    const std::int64_t local = std::int64_t{experts[static_cast<std::size_t>(i)]} - call.weights.local_expert_offset;
    rows |= static_cast<std::uint32_t>(local >= 0 && local < g.local_experts) << i;
  }
  if (call.pruning.is_on()) rows = contract::kept_picks(call.pruning, {weights.data(), g.top_k, ~0U, rows});
  *count = 0;
  for (std::int32_t i = 0; i < g.top_k; ++i) {
    if (!contract::is_in(rows, i)) continue;
    const auto pick = static_cast<std::size_t>(i);
    picks[(*count)++] = {experts[pick] - call.weights.local_expert_offset, weights[pick], -1};
  }
}

// each(token) for `tokens` of them, on the pool.
template <typename Each>
void for_each_token(ThreadPool& pool, std::int64_t tokens, const Each& each) {
  pool.for_each((tokens + kTokensPerTask - 1) / kTokensPerTask, [&](std::int64_t task, int) {
    const std::int64_t end = std::min(tokens, (task + 1) * kTokensPerTask);
    for (std::int64_t t = task * kTokensPerTask; t < end; ++t) each(t);
  });
}

}  // namespace

void route(const Call& call, const TokenBlock& block) {
  const PerExpert bias = load_bias(call.geometry, call.weights);
  for_each_token(call.pool, block.count, [&](std::int64_t t) {
    route_token(call, bias, block.first + t, call.picks_of(t), call.buffers.pick_count + t);
  });
}

void route_alone(const contract::Geometry& g, const contract::Weights& weights,
                 const contract::Activations& activations, const contract::RoutedPicks& picks, ThreadPool& pool) {
  const PerExpert bias = load_bias(g, weights);
  for_each_token(pool, activations.tokens, [&](std::int64_t t) {
    pick_experts(g, activations, bias, weights.routed_scaling_factor, t, picks.experts + t * g.top_k,
                 picks.weights + t * g.top_k);
  });
}

}  // namespace blockmoe::cpu
