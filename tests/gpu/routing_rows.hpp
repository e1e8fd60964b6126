// routing_rows.hpp: logits and biases that are hard to route, for 256 experts in groups of 32.
#pragma once

#include <cstdint>
#include <vector>

namespace blockmoe::test {

struct NearTies {
  int one_token_in = 1;       // has them; the others' logits are normal
  int most_seconds = 3;       // experts of a group that are almost as good as its second best, at most
  int most_ulps = 3;          // how far apart they are, in units of the last place of the logit
  int non_finite_one_in = 0;  // token with NaN or infinities among its logits; 0 for none
};

inline constexpr NearTies kNearTies[] = {
    {1, 1, 0, 0}, {1, 1, 1, 0}, {1, 1, 3, 0}, {1, 2, 3, 0}, {1, 3, 8, 0},  {1, 4, 40, 0},
    {4, 2, 3, 0}, {9, 3, 2, 0}, {1, 8, 2, 0}, {3, 2, 2, 5}, {1, 30, 1, 0}, {1, 3, 200, 40},
};

enum class NearTieBias { none, small, common, coarse, huge, special };
inline constexpr NearTieBias kNearTieBiases[] = {NearTieBias::none,   NearTieBias::small, NearTieBias::common,
                                                 NearTieBias::coarse, NearTieBias::huge,  NearTieBias::special};

/// [E], or empty. Experts differ by up to 0.1, around 0 (small, and special, which has NaN, infinity and the largest numbers
/// too), 14 (common), -1000 (coarse) or 2000 (huge).
std::vector<float> near_tie_bias(NearTieBias kind, int seed);

/// Rows [T, E] in which every group has an expert of almost the same best b and some of almost the same second-best b, so that
/// the scores of all groups lie no or few units of the last place apart: as far as fp32 can tell with `bias`.
std::vector<float> near_tie_logits(const NearTies& ties, const std::vector<float>& bias, std::int64_t tokens, int seed);

}  // namespace blockmoe::test
