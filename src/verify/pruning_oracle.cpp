#include "verify/pruning_oracle.hpp"

#include <cmath>
#include <cstddef>
#include <set>

namespace blockmoe::verify {
namespace {

/// Relative error of a weight and of a sum of 32: roundings of 2^-24 each, some 40 of them; and of subnormal ones.
constexpr double kRelative = 0x1p-17;
constexpr double kAbsolute = 0x1p-143;

struct Bounds {
  double low;
  double high;

  Bounds widened() const { return {low * (1 - kRelative) - kAbsolute, high * (1 + kRelative) + kAbsolute}; }
};

/// |weight| of each pick.
std::vector<Bounds> magnitudes(const std::vector<PickScores>& picks, float routed_scaling_factor) {
  Bounds sum{1e-20, 1e-20};
  for (const PickScores& pick : picks) {
    sum.low += static_cast<double>(pick.s_low);
    sum.high += static_cast<double>(pick.s_high);
  }
  const double factor = std::abs(static_cast<double>(routed_scaling_factor));
  std::vector<Bounds> all;
  for (const PickScores& pick : picks) {
    const Bounds weight{static_cast<double>(pick.s_low) / sum.high * factor,
                        static_cast<double>(pick.s_high) / sum.low * factor};
    all.push_back(weight.widened());
  }
  return all;
}

/// The order of picks: b descending, expert ascending.
bool surely_picked_before(const PickScores& a, const PickScores& b) {
  if (a.b_low > b.b_high) return true;
  const bool equal = a.logit == b.logit && a.bias == b.bias;
  return a.expert < b.expert && (equal || a.b_low == b.b_high);
}

bool surely_not_less(const PickScores& a, const PickScores& b) {
  return a.s_low >= b.s_high || a.logit == b.logit;
}

}  // namespace

std::vector<Numbers> prune(const std::vector<PickScores>& picks, float routed_scaling_factor,
                           const contract::Pruning& rule) {
  const std::vector<Bounds> weight = magnitudes(picks, routed_scaling_factor);
  const auto bounds_of = [&](std::int32_t pick) { return weight[static_cast<std::size_t>(pick)]; };
  const auto scores_of = [&](std::int32_t pick) -> const PickScores& { return picks[static_cast<std::size_t>(pick)]; };

  Bounds sum{0, 0};
  for (const Bounds& w : weight) sum = {sum.low + w.low, sum.high + w.high};
  const Bounds least = Bounds{sum.low * static_cast<double>(rule.min_weight_share),
                              sum.high * static_cast<double>(rule.min_weight_share)}
                           .widened();
  Numbers local;
  std::size_t surely_large = 0;
  std::size_t possibly_large = 0;
  for (std::int32_t pick = 0; pick < std::ssize(picks); ++pick) {
    if (!scores_of(pick).is_local) continue;
    local.push_back(pick);
    surely_large += rule.min_weight_share == 0.0F || bounds_of(pick).low >= least.high ? 1 : 0;
    possibly_large += rule.min_weight_share == 0.0F || bounds_of(pick).high >= least.low ? 1 : 0;
  }

  // Both rules leave the first of the local picks by weight: as many as are large enough, or as many as may stay.
  const auto surely_before = [&](std::int32_t a, std::int32_t b) {
    if (bounds_of(a).low > bounds_of(b).high) return true;
    return surely_not_less(scores_of(a), scores_of(b)) && surely_picked_before(scores_of(a), scores_of(b));
  };
  const std::size_t most = rule.max_local_picks == 0 ? picks.size() : static_cast<std::size_t>(rule.max_local_picks);
  std::set<Numbers> distinct;
  for (std::size_t count = std::min(surely_large, most); count <= std::min(possibly_large, most); ++count) {
    const FirstOnes first = first_ones(local, local, count, surely_before);
    if (first.sets.empty()) return {};
    for (const Numbers& set : first.sets) {
      Numbers experts;
      for (const std::int32_t pick : set) experts.push_back(scores_of(pick).expert);
      std::sort(experts.begin(), experts.end());
      distinct.insert(experts);
    }
  }
  if (distinct.size() > kMaxAlternatives) return {};
  return {distinct.begin(), distinct.end()};
}

}  // namespace blockmoe::verify
