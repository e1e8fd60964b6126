// oracle.hpp: the operator in FP64, sharing only the geometry with the backends.
//
// Two forms of each output row: `requantised` rounds the intermediate to e4m3 as the contract says, from the FP64 values;
// `plain` does not. Neither rounds the output. The arithmetic has FP64's precision and fp32's range: a routing score, a
// product of two scales, an intermediate value below 2^-126 is rounded to a multiple of 2^-149, as any fp32 backend must.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "contract/call.h"
#include "contract/geometry.h"
#include "contract/pruning.h"

namespace blockmoe::verify {

enum class OracleScope {
  sample,  // `sampled_tokens` tokens and the unusual ones: what large T can afford on a CPU
  full,    // every token
};

/// A token is unusual when its routing is not a plain choice among different numbers: NaN or infinite logits or bias, an
/// exact tie, a choice within the error of fp32. A sampled run checks all of them where the products are computed
/// elsewhere; on this CPU at most this many, the lowest tokens first. A local pick of DeepSeek-V3's layer costs 7 ms of
/// processor time (AMD EPYC, AVX2): 4 s on 2 cores where each token has one, half a minute where each has eight.
inline constexpr std::int64_t kMaxUnusualOnCpu = 1024;

/// A row of one local expert's products: a token that may have picked it.
struct ExpertRow {
  std::int32_t local_expert;
  std::int64_t token;
};

struct ExpertRowProducts {
  std::vector<double> requantised;         // [rows, H] with the intermediate rounded to e4m3
  std::vector<double> plain;               // [rows, H] without
  std::vector<std::uint8_t> out_of_range;  // [rows] as Products::out_of_range, over both stages
};

/// Both products of some rows, ascending by expert, computed elsewhere than here (expert_oracle_cuda.hpp).
using ExpertRowsElsewhere = std::function<ExpertRowProducts(std::span<const ExpertRow>)>;

struct OracleOptions {
  OracleScope scope = OracleScope::sample;
  std::int64_t sampled_tokens = 64;  // three in four of them with local picks, where there are as many
  std::uint64_t seed = 0;            // of the sampling
  int threads = 0;                   // 0 = all that the process may run on
  ExpertRowsElsewhere products;      // empty: on this CPU
  contract::Pruning pruning;         // off: every local pick is a row
};

/// What routing did with the call, over all T tokens (not only the checked ones).
struct RoutingFacts {
  std::int64_t rows = 0;                     // local picks: rows that the grouped products work on
  std::int32_t active_experts = 0;           // local experts with at least one row
  std::vector<std::int64_t> rows_of_expert;  // [L]
  std::vector<std::int32_t> local_picks;     // [T]; -1 where the number depends on a choice within fp32's error
  std::int64_t tokens_without_local_pick = 0;
  std::int64_t unusual_tokens = 0;
  std::int64_t ambiguous_tokens = 0;  // unusual ones with more than one possible outcome, or too many
};

/// The facts of the whole call, and the rows of the checked tokens.
struct OracleResult {
  contract::Geometry geometry;
  std::int64_t tokens = 0;  // T
  OracleScope scope = OracleScope::sample;
  RoutingFacts routing;

  std::vector<std::int64_t> checked;  // ascending; the tokens whose rows follow
  std::int64_t unusual_checked = 0;   // of routing.unusual_tokens
  // Rows first_row[i] .. first_row[i + 1] - 1 are the possible outcomes of token checked[i]; nearly always one.
  std::vector<std::int64_t> first_row;  // [checked + 1]
  std::vector<double> requantised;      // [rows, H]
  std::vector<double> plain;            // [rows, H]
  // 1 where fp32's range is left on the way to the row (a sum that may overflow): then its value is not promised.
  std::vector<std::uint8_t> out_of_range;  // [rows]

  const double* requantised_row(std::int64_t row) const { return requantised.data() + row * geometry.hidden; }
  const double* plain_row(std::int64_t row) const { return plain.data() + row * geometry.hidden; }
};

/// The facts alone, which cost little.
RoutingFacts routing_facts(const contract::Geometry& geometry, const contract::Weights& weights,
                           const contract::Activations& activations, int threads = 0,
                           const contract::Pruning& pruning = {});

/// Reads the same memory that a backend reads (all of it on the host); `activations.output` is not touched.
OracleResult run_oracle(const contract::Geometry& geometry, const contract::Weights& weights,
                        const contract::Activations& activations, const OracleOptions& options = {});

}  // namespace blockmoe::verify
