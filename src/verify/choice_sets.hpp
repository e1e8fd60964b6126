// choice_sets.hpp: which numbers may be the first of an order that is only known in part.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace blockmoe::verify {

using Numbers = std::vector<std::int32_t>;

/// More ways to choose than this are not told apart.
inline constexpr std::size_t kMaxAlternatives = 16;

struct FirstOnes {
  Numbers in;                 // chosen in any case
  Numbers out;                // of the contenders, chosen in no case
  std::vector<Numbers> sets;  // every possible choice, each ascending; none when they are too many
};

/// Appends to `sets` every way to add `missing` of undecided[from..] to `chosen`; false when they would be too many.
inline bool extend(const Numbers& undecided, std::size_t from, std::size_t missing, Numbers& chosen,
                   std::vector<Numbers>& sets) {
  if (missing == 0) {
    if (sets.size() == kMaxAlternatives) return false;
    sets.push_back(chosen);
    std::sort(sets.back().begin(), sets.back().end());
    return true;
  }
  for (std::size_t i = from; i + missing <= undecided.size(); ++i) {
    chosen.push_back(undecided[i]);
    const bool fits = extend(undecided, i + 1, missing - 1, chosen, sets);
    chosen.pop_back();
    if (!fits) return false;
  }
  return true;
}

/// The `count` first of `numbers`, none of which but `contenders` can be one of them. surely_before(i, j): i stands before j
/// on every backend.
template <typename Before>
FirstOnes first_ones(const Numbers& numbers, const Numbers& contenders, std::size_t count,
                     const Before& surely_before) {
  FirstOnes first;
  Numbers undecided;
  for (const std::int32_t n : contenders) {
    const auto better = std::count_if(numbers.begin(), numbers.end(),
                                      [&](std::int32_t other) { return other != n && surely_before(other, n); });
    const auto worse = std::count_if(numbers.begin(), numbers.end(),
                                     [&](std::int32_t other) { return other != n && surely_before(n, other); });
    const std::size_t possibly_better = numbers.size() - 1 - static_cast<std::size_t>(worse);
    if (static_cast<std::size_t>(better) >= count) {
      first.out.push_back(n);
    } else {
      (possibly_better < count ? first.in : undecided).push_back(n);
    }
  }
  Numbers chosen = first.in;
  if (!extend(undecided, 0, count - first.in.size(), chosen, first.sets)) first.sets.clear();
  return first;
}

}  // namespace blockmoe::verify
