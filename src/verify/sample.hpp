// sample.hpp: which tokens the oracle computes.
#pragma once

#include <cstdint>
#include <vector>

#include "verify/oracle.hpp"
#include "verify/routing_oracle.hpp"

namespace blockmoe::verify {

/// True for tokens that a sampled run checks beyond its sample.
bool is_unusual(const TokenRouting& routing);

/// The facts of the whole call. A token with several possible outcomes counts with its first.
RoutingFacts routing_facts(const contract::Geometry& geometry, std::int32_t local_expert_offset,
                           const std::vector<TokenRouting>& routing);

/// Tokens to check, ascending. All of them where the scope is `full` or the sample is as large as T. A sample holds the
/// first and the last token, then tokens with local picks, first those that bring an active expert not yet covered, and a
/// quarter of tokens without; and the unusual tokens beside.
std::vector<std::int64_t> tokens_to_check(const contract::Geometry& geometry, std::int32_t local_expert_offset,
                                          const std::vector<TokenRouting>& routing, const RoutingFacts& facts,
                                          const OracleOptions& options);

}  // namespace blockmoe::verify
