// compare.hpp: a backend's output against the oracle's rows.
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

struct LargestError {
  double error = 0.0;       // |got - expected|, against the plain oracle
  std::int64_t token = -1;  // -1: no element was compared
  std::int64_t column = -1;
  double got = 0.0;
  double expected = 0.0;
};

struct Comparison {
  double matched_ratio = 1.0;       // of the elements of the checked rows; 1 where there are none
  double rel_l2_requantised = 0.0;  // |got - requantised| / |requantised| over the checked rows
  double rel_l2_plain = 0.0;
  LargestError largest;

  std::int64_t checked_tokens = 0;  // rows compared with the oracle's
  std::int64_t tokens = 0;          // T
  // Over all T rows, checked or not.
  std::int64_t unexpected_non_finite = 0;  // NaN or Inf where the oracle's are finite; in an unchecked row, anywhere
  std::int64_t missing_non_finite = 0;     // elements that are finite where the oracle's are NaN or Inf
  std::int64_t nonzero_without_pick = 0;   // elements other than zero in rows of tokens with no local pick
  std::int64_t not_promised = 0;           // elements left out: fp32 may overflow there, or the picks are undecidable

  bool within_tolerance = false;  // the matched ratio suffices, and the three counts of faults are zero
  bool within_gates = false;      // both relative L2 hold, and the three counts of faults are zero
  /// One line that says what failed, with figures; empty when both hold.
  std::string fault;
};

/// `output` is [T, H] bf16 with a pitch in elements. A token with several possible rows is held to the nearest one.
Comparison compare(const OracleResult& oracle, const std::uint16_t* output, std::int64_t output_pitch,
                   const Tolerance& tolerance = {}, const Gates& gates = kCpuGates);

}  // namespace blockmoe::verify
