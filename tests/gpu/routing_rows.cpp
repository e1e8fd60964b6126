#include "routing_rows.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "contract/host_device.h"

namespace blockmoe::test {
namespace {

constexpr int kExperts = 256;
constexpr int kGroupExperts = 32;
constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kMax = std::numeric_limits<float>::max();

// The logit whose sigmoid is `s`, as near as fp32 comes, moved by some units of the last place.
float logit_of(double s, int ulps) {
  const double inside = std::clamp(s, 1e-6, 1.0 - 1e-6);
  const auto nearest = static_cast<float>(std::log(inside / (1.0 - inside)));
  return contract::float_of(contract::bits_of(nearest) + static_cast<std::uint32_t>(ulps));
}

float middle_of(NearTieBias kind) {
  switch (kind) {
    case NearTieBias::common:
      return 14.0F;
    case NearTieBias::coarse:
      return -1000.0F;
    case NearTieBias::huge:
      return 2000.0F;
    default:
      return 0.0F;
  }
}

}  // namespace

std::vector<float> near_tie_bias(NearTieBias kind, int seed) {
  constexpr float kSpecial[] = {kNaN, kInf, -kInf, kMax, -kMax};
  std::vector<float> bias;
  if (kind == NearTieBias::none) return bias;
  for (int e = 0; e < kExperts; ++e) {
    const float own = 0.001F * static_cast<float>((e * 37 + seed) % 101) - 0.05F;
    const bool special = kind == NearTieBias::special && (e + seed) % 50 == 7;
    bias.push_back(special ? kSpecial[(e + seed) / 50 % 5] : middle_of(kind) + own);
  }
  return bias;
}

std::vector<float> near_tie_logits(const NearTies& ties, const std::vector<float>& bias, std::int64_t tokens,
                                   int seed) {
  constexpr float kNonFinite[] = {kNaN, kInf, -kInf};
  std::mt19937 random(static_cast<std::uint32_t>(seed));
  const auto below = [&](int end) { return static_cast<int>(random() % static_cast<std::uint32_t>(end)); };
  std::normal_distribution<float> normal;
  std::vector<float> sorted = bias;
  std::nth_element(sorted.begin(), sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2), sorted.end(),
                   [](float a, float b) { return a < b || (b != b && a == a); });
  const float middle = sorted.empty() ? 0.0F : sorted[sorted.size() / 2];

  std::vector<float> logits;
  for (std::int64_t t = 0; t < tokens; ++t) {
    const bool tied = below(ties.one_token_in) == 0;
    std::vector<float> row(kExperts);
    for (float& logit : row) logit = tied ? normal(random) * 0.25F - 1.5F : normal(random);
    // b of the expert becomes `s` and the middle of all biases.
    const auto put = [&](int expert, double s) {
      const auto e = static_cast<std::size_t>(expert);
      const float own = bias.empty() ? 0.0F : bias[e] - middle;
      const bool ordinary = std::fabs(own) < 1.0F;
      row[e] = logit_of(ordinary ? s - static_cast<double>(own) : s, below(ties.most_ulps + 1));
    };
    const double best = 0.75 + 0.001 * below(100);
    const double second = best - 0.001 * below(100);
    for (int group = 0; tied && group < kExperts; group += kGroupExperts) {
      for (int i = 1 + below(ties.most_seconds); i > 0; --i) put(group + below(kGroupExperts), second);
      put(group + below(kGroupExperts), best);
    }
    if (ties.non_finite_one_in > 0 && below(ties.non_finite_one_in) == 0) {
      for (int i = 1 + below(4); i > 0; --i) row[static_cast<std::size_t>(below(kExperts))] = kNonFinite[below(3)];
    }
    logits.insert(logits.end(), row.begin(), row.end());
  }
  return logits;
}

}  // namespace blockmoe::test
