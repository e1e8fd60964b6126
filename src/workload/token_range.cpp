#include "workload/token_range.hpp"

#include <charconv>
#include <cmath>
#include <optional>
#include <system_error>

#include "contract/geometry.h"
#include "workload/error.hpp"

namespace blockmoe::workload {
namespace {

std::optional<std::int64_t> number_of(std::string_view text) {
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

}  // namespace

Result<std::vector<std::int64_t>> parse_token_range(std::string_view text) {
  constexpr std::string_view kTo = "..";
  const std::size_t to = text.find(kTo);
  const std::size_t slash = text.find('/');
  const bool stepped = slash != std::string_view::npos;
  std::optional<std::int64_t> first, last, steps;
  if (to != std::string_view::npos && slash > to) {
    first = number_of(text.substr(0, to));
    last = number_of(text.substr(to + kTo.size(), slash - to - kTo.size()));
    steps = stepped ? number_of(text.substr(slash + 1)) : 0;
  }
  const bool in_order = first && last && steps && *first >= 1 && *first <= *last && *last <= contract::kMaxTokens;
  const bool good = in_order && (stepped ? *steps >= 1 && *steps <= *last - *first && *steps <= kMostSizes
                                         : *last - *first < kMostSizes);
  if (!good) {
    return invalid("is {}, expected A..B or A..B/N, 1 <= A <= B <= {}, 1 <= N <= B - A, at most {} sizes",
                   in_quotes(text), contract::kMaxTokens, kMostSizes);
  }
  std::vector<std::int64_t> sizes;
  if (!stepped) {
    for (std::int64_t tokens = *first; tokens <= *last; ++tokens) sizes.push_back(tokens);
    return sizes;
  }
  const double factor = static_cast<double>(*last) / static_cast<double>(*first);
  for (std::int64_t step = 1; step <= *steps; ++step) {
    const double power = static_cast<double>(step) / static_cast<double>(*steps);
    const auto tokens = static_cast<std::int64_t>(std::llround(static_cast<double>(*first) * std::pow(factor, power)));
    if (tokens > (sizes.empty() ? *first : sizes.back())) sizes.push_back(tokens);
  }
  return sizes;
}

}  // namespace blockmoe::workload
