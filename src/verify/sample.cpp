#include "verify/sample.hpp"

#include <algorithm>
#include <numeric>
#include <set>
#include <utility>

namespace blockmoe::verify {
namespace {

/// SplitMix64 (Steele, Lea, Flood 2014): the same numbers everywhere, which std::shuffle does not promise.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}

  std::uint64_t below(std::uint64_t bound) { return next() % bound; }

 private:
  std::uint64_t next() {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15U;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
  }

  std::uint64_t state_;
};

void shuffle(std::vector<std::int64_t>& tokens, Random& random) {
  for (std::size_t i = tokens.size(); i > 1; --i) std::swap(tokens[i - 1], tokens[random.below(i)]);
}

/// Local numbers of a token's local picks, in the first possible outcome.
std::vector<std::int32_t> local_experts(const contract::Geometry& geometry, std::int32_t offset,
                                        const TokenRouting& routing) {
  std::vector<std::int32_t> local;
  if (routing.alternatives.empty()) return local;
  for (const Pick& pick : routing.alternatives.front()) {
    const std::int64_t expert = std::int64_t{pick.expert} - offset;
    if (expert >= 0 && expert < geometry.local_experts) local.push_back(static_cast<std::int32_t>(expert));
  }
  return local;
}

bool is_ambiguous(const TokenRouting& routing) {
  return routing.alternatives.size() != 1;
}

/// The same tokens, but those that bring an expert which no earlier one has stand first.
std::vector<std::int64_t> covering_first(const std::vector<std::int64_t>& tokens, const contract::Geometry& geometry,
                                         std::int32_t offset, const std::vector<TokenRouting>& routing) {
  std::set<std::int32_t> covered;
  std::vector<std::int64_t> first;
  std::vector<std::int64_t> rest;
  for (const std::int64_t token : tokens) {
    const std::size_t before = covered.size();
    const auto experts = local_experts(geometry, offset, routing[static_cast<std::size_t>(token)]);
    covered.insert(experts.begin(), experts.end());
    (covered.size() > before ? first : rest).push_back(token);
  }
  first.insert(first.end(), rest.begin(), rest.end());
  return first;
}

}  // namespace

bool is_unusual(const TokenRouting& routing) {
  return routing.non_finite || routing.tie || is_ambiguous(routing);
}

RoutingFacts routing_facts(const contract::Geometry& geometry, std::int32_t local_expert_offset,
                           const std::vector<TokenRouting>& routing) {
  RoutingFacts facts;
  facts.rows_of_expert.assign(static_cast<std::size_t>(geometry.local_experts), 0);
  for (const TokenRouting& token : routing) {
    const auto experts = local_experts(geometry, local_expert_offset, token);
    for (const std::int32_t e : experts) ++facts.rows_of_expert[static_cast<std::size_t>(e)];
    const bool ambiguous = is_ambiguous(token);
    facts.local_picks.push_back(ambiguous ? -1 : static_cast<std::int32_t>(experts.size()));
    facts.tokens_without_local_pick += !ambiguous && experts.empty() ? 1 : 0;
    facts.unusual_tokens += is_unusual(token) ? 1 : 0;
    facts.ambiguous_tokens += ambiguous ? 1 : 0;
  }
  facts.rows = std::accumulate(facts.rows_of_expert.begin(), facts.rows_of_expert.end(), std::int64_t{0});
  facts.active_experts = static_cast<std::int32_t>(std::count_if(
      facts.rows_of_expert.begin(), facts.rows_of_expert.end(), [](std::int64_t rows) { return rows > 0; }));
  return facts;
}

std::vector<std::int64_t> tokens_to_check(const contract::Geometry& geometry, std::int32_t local_expert_offset,
                                          const std::vector<TokenRouting>& routing, const RoutingFacts& facts,
                                          const OracleOptions& options) {
  const std::int64_t tokens = std::ssize(routing);
  if (options.scope == OracleScope::full || tokens <= options.sampled_tokens) {
    std::vector<std::int64_t> all(routing.size());
    std::iota(all.begin(), all.end(), 0);
    return all;
  }
  std::vector<std::int64_t> with;
  std::vector<std::int64_t> without;
  std::set<std::int64_t> chosen{0, tokens - 1};
  const std::int64_t most = options.products ? tokens : kMaxUnusualOnCpu;
  std::int64_t unusual = 0;
  for (std::int64_t token = 0; token < tokens; ++token) {
    const auto t = static_cast<std::size_t>(token);
    (facts.local_picks[t] != 0 ? with : without).push_back(token);
    if (is_unusual(routing[t]) && unusual++ < most) chosen.insert(token);
  }
  Random random(options.seed);
  shuffle(with, random);
  shuffle(without, random);
  with = covering_first(with, geometry, local_expert_offset, routing);

  const std::int64_t of_without =
      std::min(std::ssize(without), std::max(options.sampled_tokens / 4, options.sampled_tokens - std::ssize(with)));
  const std::int64_t of_with = std::min(std::ssize(with), options.sampled_tokens - of_without);
  chosen.insert(with.begin(), with.begin() + of_with);
  chosen.insert(without.begin(), without.begin() + of_without);
  return {chosen.begin(), chosen.end()};
}

}  // namespace blockmoe::verify
