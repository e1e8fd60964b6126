#include "verify/routing_oracle.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cfloat>
#include <cmath>
#include <functional>
#include <numeric>
#include <optional>
#include <set>
#include <utility>

#include "verify/choice_sets.hpp"
#include "verify/fp32_range.hpp"
#include "verify/parallel.hpp"
#include "verify/pruning_oracle.hpp"

namespace blockmoe::verify {
namespace {

/// What a score was computed from: (logit, bias) of an expert, or of a group's two best. Equal sources are equal scores
/// on every backend.
using Source = std::array<std::pair<float, float>, 2>;

struct Candidate {
  float low;  // every backend's score lies in [low, high]
  float high;
  std::optional<Source> source;  // nullopt: not known
};

float read(const void* values, contract::FloatType type, std::int64_t index) {
  if (type == contract::FloatType::f32) return static_cast<const float*>(values)[index];
  const std::uint32_t bits = static_cast<const std::uint16_t*>(values)[index];
  return std::bit_cast<float>(bits << 16);
}

double sigmoid(double x) {
  const double e = std::exp(-std::abs(x));
  return (x > 0.0 ? 1.0 : e) / (1.0 + e);
}

std::pair<float, float> sigmoid_interval(double s) {
  if (s > 1.0 - 0x1p-26) return {1.0F, 1.0F};
  if (s < 0x1p-150) return {0.0F, 0.0F};
  auto low = static_cast<float>(s);
  float high = low;
  for (int step = 0; step < kSigmoidSteps; ++step) {
    low = std::nextafter(low, 0.0F);
    high = std::nextafter(high, 1.0F);
  }
  return {low, high};
}

float choice_score(float s, float bias) {
  const float b = s + bias;
  if (std::isnan(b)) return -FLT_MAX;
  return std::clamp(b, -FLT_MAX, FLT_MAX);
}

Candidate expert_candidate(float logit, float bias, double s) {
  const Source source{{{logit + 0.0F, bias + 0.0F}}};  // -0 becomes +0
  if (std::isnan(logit) || std::isnan(bias)) return {-FLT_MAX, -FLT_MAX, std::nullopt};
  const auto [low, high] = sigmoid_interval(s);
  return {choice_score(low, bias), choice_score(high, bias), source};
}

/// True when the scores are one number on every backend.
bool surely_equal(const Candidate& a, const Candidate& b) {
  if (a.source.has_value() && a.source == b.source) return true;
  return a.low == a.high && b.low == b.high && a.low == b.low;
}

/// True when candidate i stands before candidate j on every backend: a larger score, or an equal one and a lower number.
bool surely_before(const std::vector<Candidate>& candidates, std::int32_t i, std::int32_t j) {
  const Candidate& a = candidates[static_cast<std::size_t>(i)];
  const Candidate& b = candidates[static_cast<std::size_t>(j)];
  if (a.low > b.high) return true;
  return i < j && (a.low == b.high || surely_equal(a, b));
}

struct Choice {
  std::vector<Numbers> sets;  // every one that the intervals allow; none when they are too many
  bool tie = false;           // one that is in had the same score as one that is out
};

/// The `count` best among `numbers`.
Choice choose(const std::vector<Candidate>& candidates, const Numbers& numbers, std::size_t count) {
  // Only candidates whose highest score reaches the count-th lowest score can be chosen.
  std::vector<float> lows;
  for (const std::int32_t n : numbers) lows.push_back(candidates[static_cast<std::size_t>(n)].low);
  std::nth_element(lows.begin(), lows.begin() + static_cast<std::ptrdiff_t>(count - 1), lows.end(), std::greater<>());
  const float reach = lows[count - 1];

  Numbers contenders;
  for (const std::int32_t n : numbers) {
    if (candidates[static_cast<std::size_t>(n)].high >= reach) contenders.push_back(n);
  }
  const FirstOnes first = first_ones(numbers, contenders, count,
                                     [&](std::int32_t i, std::int32_t j) { return surely_before(candidates, i, j); });
  Choice choice;
  choice.tie = std::any_of(first.in.begin(), first.in.end(), [&](std::int32_t i) {
    return std::any_of(first.out.begin(), first.out.end(), [&](std::int32_t o) {
      return surely_equal(candidates[static_cast<std::size_t>(i)], candidates[static_cast<std::size_t>(o)]);
    });
  });
  choice.sets = first.sets;
  return choice;
}

Numbers members_of(const contract::Geometry& geometry, std::int32_t group) {
  Numbers members(static_cast<std::size_t>(geometry.experts_per_group()));
  std::iota(members.begin(), members.end(), group * geometry.experts_per_group());
  return members;
}

/// A group's score: the sum of its two largest scores, or its only one.
Candidate group_candidate(const std::vector<Candidate>& experts, const Numbers& members) {
  if (members.size() == 1) return experts[static_cast<std::size_t>(members[0])];
  std::vector<float> lows;
  std::vector<float> highs;
  for (const std::int32_t n : members) {
    lows.push_back(experts[static_cast<std::size_t>(n)].low);
    highs.push_back(experts[static_cast<std::size_t>(n)].high);
  }
  std::partial_sort(lows.begin(), lows.begin() + 2, lows.end(), std::greater<>());
  std::partial_sort(highs.begin(), highs.begin() + 2, highs.end(), std::greater<>());
  Candidate group{lows[0] + lows[1], highs[0] + highs[1], std::nullopt};
  if (group.low == group.high) return group;

  const std::vector<Numbers> pairs = choose(experts, members, 2).sets;
  if (pairs.size() != 1) return group;
  const std::optional<Source>& first = experts[static_cast<std::size_t>(pairs[0][0])].source;
  const std::optional<Source>& second = experts[static_cast<std::size_t>(pairs[0][1])].source;
  if (!first || !second) return group;
  Source both{(*first)[0], (*second)[0]};
  if (both[1] < both[0]) std::swap(both[0], both[1]);
  group.source = both;
  return group;
}

/// The groups that are kept.
Choice choose_groups(const contract::Geometry& geometry, const std::vector<Candidate>& experts) {
  Numbers all(static_cast<std::size_t>(geometry.n_group));
  std::iota(all.begin(), all.end(), 0);
  if (geometry.topk_group == geometry.n_group) return {{all}, false};
  std::vector<Candidate> groups;
  for (const std::int32_t g : all) groups.push_back(group_candidate(experts, members_of(geometry, g)));
  return choose(groups, all, static_cast<std::size_t>(geometry.topk_group));
}

/// The experts that are picked, from whichever groups are kept.
Choice choose_experts(const contract::Geometry& geometry, const std::vector<Candidate>& experts) {
  const Choice groups = choose_groups(geometry, experts);
  Choice choice{{}, groups.tie};
  std::set<Numbers> distinct;
  for (const Numbers& kept : groups.sets) {
    Numbers eligible;
    for (const std::int32_t g : kept) {
      const Numbers members = members_of(geometry, g);
      eligible.insert(eligible.end(), members.begin(), members.end());
    }
    const Choice of_kept = choose(experts, eligible, static_cast<std::size_t>(geometry.top_k));
    choice.tie |= of_kept.tie;
    distinct.insert(of_kept.sets.begin(), of_kept.sets.end());
    if (of_kept.sets.empty() || distinct.size() > kMaxAlternatives) return choice;
  }
  choice.sets.assign(distinct.begin(), distinct.end());
  return choice;
}

std::vector<Pick> weigh(const Numbers& experts, const std::vector<double>& s, float routed_scaling_factor) {
  double sum = 0.0;
  for (const std::int32_t e : experts) sum += s[static_cast<std::size_t>(e)];
  std::vector<Pick> picks;
  for (const std::int32_t e : experts) {
    picks.push_back({e, s[static_cast<std::size_t>(e)] / (sum + 1e-20) * static_cast<double>(routed_scaling_factor)});
  }
  return picks;
}

/// One token's scores, all [E].
struct TokenScores {
  std::vector<float> logits;
  std::vector<float> bias;
  std::vector<double> s;
  std::vector<Candidate> choice;
};

/// Appends to `alternatives` every outcome of pruning the picks; false when they would be too many.
bool add_pruned(const contract::Geometry& geometry, const contract::Weights& weights, const contract::Pruning& pruning,
                const TokenScores& scores, const std::vector<Pick>& picks,
                std::vector<std::vector<Pick>>& alternatives) {
  const auto is_local = [&](std::int32_t expert) {
    const std::int64_t number = std::int64_t{expert} - weights.local_expert_offset;
    return number >= 0 && number < geometry.local_experts;
  };
  std::vector<PickScores> of_picks;
  for (const Pick& pick : picks) {
    const auto e = static_cast<std::size_t>(pick.expert);
    const bool is_nan = std::isnan(scores.logits[e]);
    const auto [s_low, s_high] = is_nan ? std::pair(0.0F, 0.0F) : sigmoid_interval(scores.s[e]);
    of_picks.push_back({pick.expert, is_local(pick.expert), scores.logits[e] + 0.0F, scores.bias[e] + 0.0F, s_low,
                        s_high, scores.choice[e].low, scores.choice[e].high});
  }
  const std::vector<Numbers> kept = prune(of_picks, weights.routed_scaling_factor, pruning);
  for (const Numbers& experts : kept) {
    std::vector<Pick> left = picks;
    std::erase_if(left, [&](const Pick& pick) {
      return is_local(pick.expert) && !std::binary_search(experts.begin(), experts.end(), pick.expert);
    });
    alternatives.push_back(left);
  }
  return !kept.empty() && alternatives.size() <= kMaxAlternatives;
}

}  // namespace

TokenRouting route_token(const contract::Geometry& geometry, const contract::Weights& weights,
                         const contract::Activations& activations, std::int64_t token,
                         const contract::Pruning& pruning) {
  TokenRouting routing;
  TokenScores scores;
  for (std::int32_t e = 0; e < geometry.experts; ++e) {
    const float logit =
        read(activations.routing_logits, activations.routing_logits_type, token * activations.routing_logits_pitch + e);
    const float bias =
        weights.routing_bias == nullptr ? 0.0F : read(weights.routing_bias, weights.routing_bias_type, e);
    const double score = sigmoid(static_cast<double>(logit));
    routing.non_finite |= !std::isfinite(logit) || !std::isfinite(bias);
    scores.logits.push_back(logit);
    scores.bias.push_back(bias);
    scores.choice.push_back(expert_candidate(logit, bias, score));
    scores.s.push_back(std::isnan(score) ? 0.0 : with_fp32_underflow(score));
  }

  const Choice choice = choose_experts(geometry, scores.choice);
  routing.tie = choice.tie;
  for (const Numbers& experts : choice.sets) {
    const std::vector<Pick> picks = weigh(experts, scores.s, weights.routed_scaling_factor);
    if (!pruning.is_on()) {
      routing.alternatives.push_back(picks);
    } else if (!add_pruned(geometry, weights, pruning, scores, picks, routing.alternatives)) {
      routing.alternatives.clear();
      break;
    }
  }
  return routing;
}

std::vector<TokenRouting> route_tokens(const contract::Geometry& geometry, const contract::Weights& weights,
                                       const contract::Activations& activations, int threads,
                                       const contract::Pruning& pruning) {
  constexpr std::int64_t kTokensPerItem = 64;
  std::vector<TokenRouting> routing(static_cast<std::size_t>(activations.tokens));
  const std::int64_t items = (activations.tokens + kTokensPerItem - 1) / kTokensPerItem;
  parallel_for(items, threads, [&](std::int64_t item) {
    const std::int64_t end = std::min(activations.tokens, (item + 1) * kTokensPerItem);
    for (std::int64_t token = item * kTokensPerItem; token < end; ++token) {
      routing[static_cast<std::size_t>(token)] = route_token(geometry, weights, activations, token, pruning);
    }
  });
  return routing;
}

}  // namespace blockmoe::verify
