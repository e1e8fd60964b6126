#include "verify/oracle.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <span>

#include "verify/expert_oracle.hpp"
#include "verify/fp32_range.hpp"
#include "verify/parallel.hpp"
#include "verify/routing_oracle.hpp"
#include "verify/sample.hpp"

namespace blockmoe::verify {
namespace {

constexpr std::int64_t kBlock = contract::kScaleBlock;

/// A checked token and a local expert that it picks in at least one possible outcome.
struct Pair {
  std::int64_t checked;  // index into OracleResult::checked
  struct Use {
    std::int64_t row;  // of OracleResult
    double weight;
  };
  std::vector<Use> uses;
};

struct Work {
  std::vector<std::int32_t> experts;     // active, ascending
  std::vector<std::vector<Pair>> pairs;  // of each of those
  std::vector<std::int64_t> first_pair;  // of each of those, in the arrays below; and the total
};

void flag(std::uint8_t& byte) {
  std::atomic_ref<std::uint8_t>(byte).store(1, std::memory_order_relaxed);
}

/// Lists the possible rows of the checked tokens and the products that they need.
Work plan_work(const contract::Weights& weights, const std::vector<TokenRouting>& routing, OracleResult& result) {
  const auto local = static_cast<std::size_t>(result.geometry.local_experts);
  std::vector<std::vector<Pair>> by_expert(local);
  std::int64_t row = 0;
  result.first_row.push_back(row);
  for (std::int64_t c = 0; c < std::ssize(result.checked); ++c) {
    const auto token = static_cast<std::size_t>(result.checked[static_cast<std::size_t>(c)]);
    for (const std::vector<Pick>& picks : routing[token].alternatives) {
      for (const Pick& pick : picks) {
        const std::int64_t expert = std::int64_t{pick.expert} - weights.local_expert_offset;
        if (expert < 0 || expert >= result.geometry.local_experts) continue;
        std::vector<Pair>& pairs = by_expert[static_cast<std::size_t>(expert)];
        if (pairs.empty() || pairs.back().checked != c) pairs.push_back({c, {}});
        pairs.back().uses.push_back({row, pick.weight});
      }
      ++row;
    }
    result.first_row.push_back(row);
  }
  Work work;
  work.first_pair.push_back(0);
  for (std::size_t e = 0; e < local; ++e) {
    if (by_expert[e].empty()) continue;
    work.experts.push_back(static_cast<std::int32_t>(e));
    work.first_pair.push_back(work.first_pair.back() + std::ssize(by_expert[e]));
    work.pairs.push_back(std::move(by_expert[e]));
  }
  return work;
}

std::vector<RowView> views_of(const ScaledRows& rows, std::int64_t begin, std::int64_t end) {
  std::vector<RowView> views;
  for (std::int64_t r = begin; r < end; ++r) views.push_back(view(rows, r));
  return views;
}

/// silu(gate) * up of every pair: [pairs, I].
Products activate_pairs(const contract::Weights& weights, const contract::Activations& activations, const Work& work,
                        const OracleResult& result, int threads) {
  const contract::Geometry& geometry = result.geometry;
  const ScaledRows hidden = hidden_rows(geometry, activations, result.checked);
  const std::int64_t pairs = work.first_pair.back();
  Products activated{std::vector<double>(static_cast<std::size_t>(pairs * geometry.intermediate)),
                     std::vector<std::uint8_t>(static_cast<std::size_t>(pairs))};
  const std::int64_t blocks = geometry.intermediate_blocks();
  parallel_for(std::ssize(work.experts) * blocks, threads, [&](std::int64_t item) {
    const auto i = static_cast<std::size_t>(item / blocks);
    const std::int64_t block = item % blocks;
    std::vector<RowView> rows;
    for (const Pair& pair : work.pairs[i]) rows.push_back(view(hidden, pair.checked));
    std::vector<std::uint8_t> out_of_range(rows.size());
    double* out = activated.values.data() + work.first_pair[i] * geometry.intermediate + block * kBlock;
    gemm1_block(geometry, weights, work.experts[i], block, rows, out, geometry.intermediate, out_of_range.data());
    for (std::size_t r = 0; r < rows.size(); ++r) {
      if (out_of_range[r] != 0) flag(activated.out_of_range[static_cast<std::size_t>(work.first_pair[i]) + r]);
    }
  });
  return activated;
}

/// One expert's products of one block of columns: both forms, `pitch` apart from pair to pair.
struct ProductBlock {
  const double* requantised;
  const double* plain;
  std::int64_t pitch;
  const std::uint8_t* out_of_range;  // [pairs]
};

/// Adds them to the rows that use them.
void combine(const std::vector<Pair>& pairs, ProductBlock products, std::int64_t block, OracleResult& result) {
  constexpr double kLargestTerm = kOverflow / contract::kMaxTopK;
  for (const Pair& pair : pairs) {
    for (const Pair::Use& use : pair.uses) {
      const std::int64_t begin = use.row * result.geometry.hidden + block * kBlock;
      bool in_range = *products.out_of_range == 0;
      for (std::int64_t i = 0; i < kBlock; ++i) {
        const double term = use.weight * products.requantised[i];
        in_range = in_range && (std::abs(term) < kLargestTerm || !std::isfinite(term));
        result.requantised[static_cast<std::size_t>(begin + i)] += term;
        result.plain[static_cast<std::size_t>(begin + i)] += use.weight * products.plain[i];
      }
      if (!in_range) flag(result.out_of_range[static_cast<std::size_t>(use.row)]);
    }
    products.requantised += products.pitch;
    products.plain += products.pitch;
    ++products.out_of_range;
  }
}

/// The combine of products made elsewhere: a block of columns at a time, over all experts in ascending order.
void combine_rows(const ExpertRowProducts& products, const Work& work, OracleResult& result, int threads) {
  const std::int64_t hidden = result.geometry.hidden;
  parallel_for(result.geometry.hidden_blocks(), threads, [&](std::int64_t block) {
    for (std::size_t i = 0; i < work.experts.size(); ++i) {
      const std::int64_t begin = work.first_pair[i] * hidden + block * kBlock;
      combine(work.pairs[i],
              {products.requantised.data() + begin, products.plain.data() + begin, hidden,
               products.out_of_range.data() + work.first_pair[i]},
              block, result);
    }
  });
}

std::vector<ExpertRow> rows_of(const Work& work, const OracleResult& result) {
  std::vector<ExpertRow> rows;
  for (std::size_t i = 0; i < work.experts.size(); ++i) {
    for (const Pair& pair : work.pairs[i]) {
      rows.push_back({work.experts[i], result.checked[static_cast<std::size_t>(pair.checked)]});
    }
  }
  return rows;
}

/// gemm2 and the combine: a block of 128 output columns at a time, over all experts in ascending order.
void finish_rows(const contract::Weights& weights, const Products& activated, const Work& work, OracleResult& result,
                 int threads) {
  const contract::Geometry& geometry = result.geometry;
  const ScaledRows requantised = requantise_rows(activated.values, geometry.intermediate);
  const ScaledRows plain = unscaled_rows(activated.values, geometry.intermediate);
  parallel_for(geometry.hidden_blocks(), threads, [&](std::int64_t block) {
    for (std::size_t i = 0; i < work.experts.size(); ++i) {
      std::vector<RowView> rows = views_of(requantised, work.first_pair[i], work.first_pair[i + 1]);
      const std::vector<RowView> plain_rows = views_of(plain, work.first_pair[i], work.first_pair[i + 1]);
      rows.insert(rows.end(), plain_rows.begin(), plain_rows.end());
      std::vector<double> products(rows.size() * kBlock);
      std::vector<std::uint8_t> out_of_range(rows.size());
      gemm2_block(geometry, weights, work.experts[i], block, rows, products.data(), kBlock, out_of_range.data());
      for (std::size_t p = 0; p < work.pairs[i].size(); ++p) {
        out_of_range[p] |= activated.out_of_range[static_cast<std::size_t>(work.first_pair[i]) + p];
      }
      const double* const first_plain = products.data() + std::ssize(work.pairs[i]) * kBlock;
      combine(work.pairs[i], {products.data(), first_plain, kBlock, out_of_range.data()}, block, result);
    }
  });
}

}  // namespace

RoutingFacts routing_facts(const contract::Geometry& geometry, const contract::Weights& weights,
                           const contract::Activations& activations, int threads, const contract::Pruning& pruning) {
  return routing_facts(geometry, weights.local_expert_offset,
                       route_tokens(geometry, weights, activations, threads, pruning));
}

OracleResult run_oracle(const contract::Geometry& geometry, const contract::Weights& weights,
                        const contract::Activations& activations, const OracleOptions& options) {
  OracleResult result;
  result.geometry = geometry;
  result.tokens = activations.tokens;
  result.scope = options.scope;
  const std::vector<TokenRouting> routing =
      route_tokens(geometry, weights, activations, options.threads, options.pruning);
  result.routing = routing_facts(geometry, weights.local_expert_offset, routing);
  result.checked = tokens_to_check(geometry, weights.local_expert_offset, routing, result.routing, options);
  result.unusual_checked = std::count_if(result.checked.begin(), result.checked.end(), [&](std::int64_t token) {
    return is_unusual(routing[static_cast<std::size_t>(token)]);
  });

  const Work work = plan_work(weights, routing, result);
  const auto rows = static_cast<std::size_t>(result.first_row.back());
  result.requantised.assign(rows * static_cast<std::size_t>(geometry.hidden), 0.0);
  result.plain.assign(rows * static_cast<std::size_t>(geometry.hidden), 0.0);
  result.out_of_range.assign(rows, 0);
  if (options.products) {
    combine_rows(options.products(rows_of(work, result)), work, result, options.threads);
    return result;
  }
  const Products activated = activate_pairs(weights, activations, work, result, options.threads);
  finish_rows(weights, activated, work, result, options.threads);
  return result;
}

}  // namespace blockmoe::verify
