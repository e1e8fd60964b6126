#include "cpu_reference.hpp"

#include <algorithm>
#include <array>
#include <cfloat>
#include <cmath>
#include <numeric>

#include "contract/e4m3.h"
#include "contract/exp.h"

namespace blockmoe::test {
namespace {

constexpr std::int64_t kBlock = 128;

double decode(std::uint8_t code) {
  return contract::e4m3_decode(code);
}

double nearest_code_value(double x) {
  static const std::array<double, 127> magnitudes = [] {
    std::array<double, 127> values{};
    for (std::size_t code = 0; code < values.size(); ++code) values[code] = decode(static_cast<std::uint8_t>(code));
    return values;
  }();
  const double magnitude = std::abs(x);
  const auto above =
      std::min<std::ptrdiff_t>(std::ranges::lower_bound(magnitudes, magnitude) - magnitudes.begin(), 126);
  if (above == 0) return 0.0;
  const double up = magnitudes[static_cast<std::size_t>(above)] - magnitude;
  const double down = magnitude - magnitudes[static_cast<std::size_t>(above - 1)];
  const bool round_up = up < down || (up == down && above % 2 == 0);
  return std::copysign(magnitudes[static_cast<std::size_t>(round_up ? above : above - 1)], x);
}

float group_score(std::vector<float> scores) {
  std::ranges::sort(scores, std::greater());
  return scores.size() == 1 ? scores[0] : scores[0] + scores[1];
}

// Numbers 0.. by descending score, the lower number first among equals.
std::vector<std::int32_t> ranked(const std::vector<float>& scores) {
  std::vector<std::int32_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::sort(order, [&](std::int32_t a, std::int32_t b) {
    const float first = scores[static_cast<std::size_t>(a)];
    const float second = scores[static_cast<std::size_t>(b)];
    return first > second || (first == second && a < b);
  });
  return order;
}

}  // namespace

std::vector<ReferencePick> reference_picks(const RandomCall& call, std::int64_t token) {
  const contract::Geometry& g = call.geometry();
  const auto experts = static_cast<std::size_t>(g.experts);
  std::vector<float> s(experts);
  std::vector<float> b(experts);
  for (std::size_t e = 0; e < experts; ++e) {
    s[e] = contract::sigmoid(call.logits()[static_cast<std::size_t>(token) * experts + e]);
    b[e] = s[e] + call.bias()[e];
    b[e] = std::isnan(b[e]) ? -FLT_MAX : std::clamp(b[e], -FLT_MAX, FLT_MAX);
    if (std::isnan(s[e])) s[e] = 0.0F;
  }
  const std::int32_t size = g.experts / g.n_group;
  std::vector<float> group_scores;
  group_scores.reserve(static_cast<std::size_t>(g.n_group));
  for (std::int32_t group = 0; group < g.n_group; ++group) {
    group_scores.push_back(group_score(std::vector<float>(b.begin() + group * size, b.begin() + (group + 1) * size)));
  }
  std::vector<std::int32_t> kept = ranked(group_scores);
  kept.resize(static_cast<std::size_t>(g.topk_group));

  std::vector<ReferencePick> picks;
  float sum = 0.0F;
  for (const std::int32_t expert : ranked(b)) {
    if (std::ranges::find(kept, expert / size) == kept.end()) continue;
    picks.push_back({expert, s[static_cast<std::size_t>(expert)]});
    sum += picks.back().weight;
    if (picks.size() == static_cast<std::size_t>(g.top_k)) break;
  }
  for (ReferencePick& pick : picks) pick.weight = pick.weight / (sum + 1e-20F) * call.recipe().routed_scaling_factor;
  return picks;
}

std::vector<double> reference_intermediate(const RandomCall& call, std::int64_t token, std::int32_t local_expert) {
  const contract::Geometry& g = call.geometry();
  const contract::Activations& a = call.activations();
  const contract::Weights& w = call.weights();
  const auto product = [&](std::int64_t row) {
    const std::int64_t first = local_expert * 2 * g.intermediate + row;
    double sum = 0;
    for (std::int64_t k = 0; k < g.hidden; ++k) {
      const double weight_scale = w.w13_scale[first / kBlock * g.hidden_blocks() + k / kBlock];
      const double scale = a.hidden_scale[k / kBlock * a.hidden_scale_pitch + token];
      sum += decode(a.hidden[token * a.hidden_pitch + k]) * scale * decode(w.w13[first * g.hidden + k]) * weight_scale;
    }
    return sum;
  };
  std::vector<double> inter;
  for (std::int64_t i = 0; i < g.intermediate; ++i) {
    const double up = product(w.gate_first ? g.intermediate + i : i);
    const double gate = product(w.gate_first ? i : g.intermediate + i);
    inter.push_back(gate / (1 + std::exp(-gate)) * up);
  }
  return inter;
}

std::vector<double> reference_requantised(const std::vector<double>& values) {
  std::vector<double> result;
  for (std::size_t begin = 0; begin < values.size(); begin += kBlock) {
    double amax = 0;
    for (std::size_t i = begin; i < begin + kBlock; ++i) amax = std::max(amax, std::abs(values[i]));
    const double scale = amax / 448;
    for (std::size_t i = begin; i < begin + kBlock; ++i) {
      result.push_back(scale == 0 ? 0 : nearest_code_value(values[i] / scale) * scale);
    }
  }
  return result;
}

std::vector<double> reference_expert_output(const RandomCall& call, const std::vector<double>& inter,
                                            std::int32_t local_expert) {
  const contract::Geometry& g = call.geometry();
  const contract::Weights& w = call.weights();
  std::vector<double> output;
  for (std::int64_t h = 0; h < g.hidden; ++h) {
    const std::int64_t row = local_expert * g.hidden + h;
    double sum = 0;
    for (std::int64_t i = 0; i < g.intermediate; ++i) {
      const double scale = w.w2_scale[row / kBlock * g.intermediate_blocks() + i / kBlock];
      sum += inter[static_cast<std::size_t>(i)] * decode(w.w2[row * g.intermediate + i]) * scale;
    }
    output.push_back(sum);
  }
  return output;
}

std::vector<double> reference_output(const RandomCall& call, std::int64_t token) {
  const contract::Geometry& g = call.geometry();
  std::vector<double> output(static_cast<std::size_t>(g.hidden), 0.0);
  for (const ReferencePick& pick : reference_picks(call, token)) {
    const std::int64_t local = std::int64_t{pick.expert} - call.weights().local_expert_offset;
    if (local < 0 || local >= g.local_experts) continue;
    const auto expert = static_cast<std::int32_t>(local);
    const auto row =
        reference_expert_output(call, reference_requantised(reference_intermediate(call, token, expert)), expert);
    for (std::size_t h = 0; h < row.size(); ++h) output[h] += double{pick.weight} * row[h];
  }
  return output;
}

double relative_l2(const std::vector<double>& a, const std::vector<double>& reference) {
  double error = 0;
  double norm = 0;
  for (std::size_t i = 0; i < reference.size(); ++i) {
    error += (a[i] - reference[i]) * (a[i] - reference[i]);
    norm += reference[i] * reference[i];
  }
  return error == 0 ? 0 : std::sqrt(error / norm);
}

}  // namespace blockmoe::test
