#include "verify/compare.hpp"

#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "verify/fp32_range.hpp"

namespace blockmoe::verify {
namespace {

double value_of(std::uint16_t bf16) {
  return static_cast<double>(std::bit_cast<float>(static_cast<std::uint32_t>(bf16) << 16));
}

/// Sums of squares of the errors and of the references.
struct Squares {
  double error = 0.0;
  double reference = 0.0;

  void add(double error_of_element, double reference_of_element) {
    error += error_of_element * error_of_element;
    reference += reference_of_element * reference_of_element;
  }
  void add(const Squares& other) {
    error += other.error;
    reference += other.reference;
  }
  double relative() const {
    if (error == 0.0) return 0.0;
    return reference > 0.0 ? std::sqrt(error / reference) : std::numeric_limits<double>::infinity();
  }
};

/// What one row adds to the comparison.
struct RowErrors {
  Squares requantised;
  Squares plain;
  std::int64_t compared = 0;
  std::int64_t matched = 0;
  std::int64_t unexpected_non_finite = 0;
  std::int64_t missing_non_finite = 0;
  LargestError largest;

  /// Orders the possible rows of a token: fewest faults, then the nearest.
  bool nearer_than(const RowErrors& other) const {
    const std::int64_t faults = unexpected_non_finite + missing_non_finite;
    const std::int64_t faults_of_other = other.unexpected_non_finite + other.missing_non_finite;
    return faults != faults_of_other ? faults < faults_of_other : requantised.error < other.requantised.error;
  }
};

double error_between(double got, double expected) {
  const double error = std::abs(got - expected);
  return error <= kNothing ? 0.0 : error;
}

RowErrors compare_row(const OracleResult& oracle, std::int64_t row, std::int64_t token, const std::uint16_t* output,
                      const Tolerance& tolerance) {
  RowErrors errors;
  const double* requantised = oracle.requantised_row(row);
  const double* plain = oracle.plain_row(row);
  for (std::int64_t column = 0; column < oracle.geometry.hidden; ++column) {
    const double got = value_of(output[column]);
    if (!std::isfinite(requantised[column]) || !std::isfinite(plain[column])) {
      errors.missing_non_finite += std::isfinite(got) ? 1 : 0;
      continue;
    }
    ++errors.compared;
    if (!std::isfinite(got)) {
      ++errors.unexpected_non_finite;
      continue;
    }
    const double error = error_between(got, plain[column]);
    errors.requantised.add(error_between(got, requantised[column]), requantised[column]);
    errors.plain.add(error, plain[column]);
    errors.matched += error > tolerance.atol && error > tolerance.rtol * std::abs(plain[column]) ? 0 : 1;
    if (errors.largest.token < 0 || error > errors.largest.error) {
      errors.largest = {error, token, column, got, plain[column]};
    }
  }
  return errors;
}

/// Sums over the checked rows.
struct Totals {
  Squares requantised;
  Squares plain;
  std::int64_t compared = 0;
  std::int64_t matched = 0;
};

void compare_token(const OracleResult& oracle, std::size_t checked, const std::uint16_t* output,
                   const Tolerance& tolerance, Totals& totals, Comparison& result) {
  const std::int64_t token = oracle.checked[checked];
  const std::int64_t begin = oracle.first_row[checked];
  const std::int64_t end = oracle.first_row[checked + 1];
  bool promised = begin < end;
  for (std::int64_t row = begin; row < end; ++row) {
    promised = promised && oracle.out_of_range[static_cast<std::size_t>(row)] == 0;
  }
  if (!promised) {
    result.not_promised += oracle.geometry.hidden;
    return;
  }
  RowErrors nearest = compare_row(oracle, begin, token, output, tolerance);
  for (std::int64_t row = begin + 1; row < end; ++row) {
    const RowErrors other = compare_row(oracle, row, token, output, tolerance);
    if (other.nearer_than(nearest)) nearest = other;
  }
  totals.requantised.add(nearest.requantised);
  totals.plain.add(nearest.plain);
  totals.compared += nearest.compared;
  totals.matched += nearest.matched;
  result.unexpected_non_finite += nearest.unexpected_non_finite;
  result.missing_non_finite += nearest.missing_non_finite;
  const double rel_l2 = nearest.requantised.relative();
  if (result.worst_row.token < 0 || rel_l2 > result.worst_row.rel_l2) result.worst_row = {rel_l2, token};
  if (nearest.largest.token >= 0 && (result.largest.token < 0 || nearest.largest.error > result.largest.error)) {
    result.largest = nearest.largest;
  }
}

/// What holds of a row whose values the oracle did not compute.
void check_finite(const OracleResult& oracle, const std::uint16_t* output, Comparison& result) {
  for (std::int64_t column = 0; column < oracle.geometry.hidden; ++column) {
    result.unexpected_non_finite += (output[column] & 0x7f80U) == 0x7f80U ? 1 : 0;
  }
}

void check_zeros(const OracleResult& oracle, const std::uint16_t* output, Comparison& result) {
  for (std::int64_t column = 0; column < oracle.geometry.hidden; ++column) {
    result.nonzero_without_pick += (output[column] & 0x7fffU) != 0 ? 1 : 0;
  }
}

std::string describe(const Comparison& result, const Tolerance& tolerance, const Gates& gates) {
  std::string text;
  const auto say = [&text](const std::string& fault) { text += (text.empty() ? "" : "; ") + fault; };
  if (result.unexpected_non_finite > 0) say(fmt::format("{} elements are NaN or Inf", result.unexpected_non_finite));
  if (result.missing_non_finite > 0) {
    say(fmt::format("{} elements are finite where NaN or Inf reaches them", result.missing_non_finite));
  }
  if (result.nonzero_without_pick > 0) {
    say(fmt::format("{} elements are not zero in rows of tokens with no local pick", result.nonzero_without_pick));
  }
  if (result.matched_ratio < tolerance.required_matched_ratio) {
    say(fmt::format("matched ratio {:.4f}, required {:g}", result.matched_ratio, tolerance.required_matched_ratio));
  }
  if (result.rel_l2_requantised > gates.requantised) {
    say(fmt::format("relative L2 {:.3g} against the requantising oracle, at most {:g}", result.rel_l2_requantised,
                    gates.requantised));
  }
  if (result.rel_l2_plain > gates.plain) {
    say(fmt::format("relative L2 {:.3g} against the plain oracle, at most {:g}", result.rel_l2_plain, gates.plain));
  }
  if (result.worst_row.rel_l2 > kRowGate) {
    say(fmt::format("relative L2 {:.3g} in the row of token {}, at most {:g}", result.worst_row.rel_l2,
                    result.worst_row.token, kRowGate));
  }
  return text;
}

}  // namespace

Comparison compare(const OracleResult& oracle, const std::uint16_t* output, std::int64_t output_pitch,
                   const Tolerance& tolerance, const Gates& gates) {
  Comparison result;
  result.tokens = oracle.tokens;
  result.checked_tokens = std::ssize(oracle.checked);
  Totals totals;
  std::size_t next = 0;
  for (std::int64_t token = 0; token < oracle.tokens; ++token) {
    const std::uint16_t* row = output + token * output_pitch;
    if (oracle.routing.local_picks[static_cast<std::size_t>(token)] == 0) check_zeros(oracle, row, result);
    if (next < oracle.checked.size() && oracle.checked[next] == token) {
      compare_token(oracle, next++, row, tolerance, totals, result);
    } else {
      check_finite(oracle, row, result);
    }
  }
  if (totals.compared > 0) {
    result.matched_ratio = static_cast<double>(totals.matched) / static_cast<double>(totals.compared);
  }
  result.rel_l2_requantised = totals.requantised.relative();
  result.rel_l2_plain = totals.plain.relative();

  const bool sound =
      result.unexpected_non_finite == 0 && result.missing_non_finite == 0 && result.nonzero_without_pick == 0;
  result.within_tolerance = sound && result.matched_ratio >= tolerance.required_matched_ratio;
  result.within_gates = sound && result.rel_l2_requantised <= gates.requantised && result.rel_l2_plain <= gates.plain &&
                        result.worst_row.rel_l2 <= kRowGate;
  if (!result.within_tolerance || !result.within_gates) result.fault = describe(result, tolerance, gates);
  return result;
}

}  // namespace blockmoe::verify
