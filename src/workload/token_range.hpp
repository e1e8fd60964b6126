// token_range.hpp: many numbers of tokens in a few characters.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "blockmoe/status.hpp"

namespace blockmoe::workload {

inline constexpr std::int64_t kMostSizes = 65536;  // of one range

/// "A..B": every T from A to B. "A..B/N": N steps beyond A to B, each the same factor, rounded to whole tokens; steps that
/// round to the same T are one. 1 <= A <= B <= 2^30, 1 <= N <= B - A, at most kMostSizes sizes.
/// With steps A itself is not one of the sizes.
/// Ascending. An error says what the text is and what it must be.
Result<std::vector<std::int64_t>> parse_token_range(std::string_view text);

}  // namespace blockmoe::workload
