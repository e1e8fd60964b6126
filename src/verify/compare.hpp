// compare.hpp: a backend's output against the oracle's rows.
//
// Elements that are NaN or Inf in the oracle must be NaN or Inf in the output, and only those. Where fp32's range is left
// on the way, or where the oracle can't tell the picks, nothing is promised and nothing is compared. Errors up to 2^-100
// are none: below it the operator's intermediate is zero.
#pragma once

#include <cstdint>
#include <string>

#include "verify/oracle.hpp"

namespace blockmoe::verify {

/// The benchmark's: an element fails when |error| > atol and |error| > rtol * |reference|, against the plain oracle.
struct Tolerance {
  double atol = 1.0;
  double rtol = 0.3;
  double required_matched_ratio = 0.9;
};

/// The contract's: largest relative L2 errors over the checked rows.
struct Gates {
  double requantised;
  double plain;
};
inline constexpr Gates kCpuGates{0.003, 0.026};
inline constexpr Gates kTensorCoreGates{0.005, 0.026};
/// With an intermediate of two terms, on all of them. The requantising oracle has one term: it is as far as the plain one is
/// from a backend with one.
inline constexpr Gates kTwoTermGates{0.026, 0.002};

/// Largest relative L2 error of a single row against the requantising oracle: a row with the wrong experts must not hide
/// behind rows that are larger.
inline constexpr double kRowGate = 0.1;

struct LargestError {
  double error = 0.0;       // |got - expected|, against the plain oracle
  std::int64_t token = -1;  // -1: no element was compared
  std::int64_t column = -1;
  double got = 0.0;
  double expected = 0.0;
};

struct WorstRow {
  double rel_l2 = 0.0;  // against the requantising oracle
  std::int64_t token = -1;
};

struct Comparison {
  std::int64_t tokens = 0;          // T
  std::int64_t checked_tokens = 0;  // rows compared with the oracle's

  // Over the checked rows.
  double matched_ratio = 1.0;       // 1 where there are none
  double rel_l2_requantised = 0.0;  // |got - requantised| / |requantised|
  double rel_l2_plain = 0.0;        // |got - plain| / |plain|
  WorstRow worst_row;
  LargestError largest;
  std::int64_t not_promised = 0;        // elements left out
  std::int64_t missing_non_finite = 0;  // finite where the oracle's are NaN or Inf

  // Over all rows.
  std::int64_t unexpected_non_finite = 0;  // NaN or Inf where the oracle's are finite; in an unchecked row, anywhere
  std::int64_t nonzero_without_pick = 0;   // other than zero though the token has no local pick

  bool within_tolerance = false;  // the matched ratio suffices and the three counts of faults are 0
  bool within_gates = false;      // the relative L2 hold and the three counts of faults are 0
  std::string fault;              // what failed, with figures, in one line; empty when both hold
};

/// `output` is [T, H] bf16 with a pitch in elements. A token with several possible rows is held to the nearest one.
Comparison compare(const OracleResult& oracle, const std::uint16_t* output, std::int64_t output_pitch,
                   const Tolerance& tolerance = {}, const Gates& gates = kCpuGates);

}  // namespace blockmoe::verify
