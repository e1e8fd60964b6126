// expert_oracle.hpp: one local expert's products in FP64, a stage at a time.
//
//   hidden rows [rows, H] x w13 [L, 2I, H] -> activated [rows, I] = silu(gate) * up, not requantised
//   inter rows  [rows, I] x w2  [L, H, I]  -> out       [rows, H]
//
// The unit of work is a block of 128 output columns. Weights are decoded into cache as they are multiplied; no expert is
// ever held in FP64 whole. A product follows the contract: exact products of 128 values, times the product of two scales.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "contract/call.h"
#include "contract/geometry.h"

namespace blockmoe::verify {

/// Rows of `width` values in blocks of 128 that share a scale. A value stands for value * scale.
struct ScaledRows {
  std::int64_t rows = 0;
  std::int64_t width = 0;
  std::vector<double> values;  // [rows, width]
  std::vector<double> scales;  // [rows, width/128]
};

/// One row of those.
struct RowView {
  const double* values;  // [width]
  const double* scales;  // [width/128]
};
RowView view(const ScaledRows& rows, std::int64_t row);

/// What a product gives. `out_of_range` is 1 where fp32's range is left on the way, so that a backend's value is not
/// promised: a sum that may overflow, a subnormal number that counts in the result.
struct Products {
  std::vector<double> values;              // [rows, width of the output]
  std::vector<std::uint8_t> out_of_range;  // [rows]
};

/// The hidden states of some tokens.
ScaledRows hidden_rows(const contract::Geometry& geometry, const contract::Activations& activations,
                       std::span<const std::int64_t> tokens);

/// Any e4m3 codes [rows, width] with scales [width/128, rows], pitches in elements: a kernel's own intermediate.
ScaledRows decode_rows(const std::uint8_t* codes, std::int64_t codes_pitch, const float* scales,
                       std::int64_t scales_pitch, std::int64_t rows, std::int64_t width);

/// [rows, width] values, each block of 128 rounded to e4m3 with the scale amax/448.
ScaledRows requantise_rows(std::span<const double> values, std::int64_t width);

/// [rows, width] values as they are.
ScaledRows unscaled_rows(std::span<const double> values, std::int64_t width);

/// Columns 128 * block .. + 127 of `activated` for `rows`, written at activated + r * pitch. out_of_range[r] is set, never
/// cleared.
void gemm1_block(const contract::Geometry& geometry, const contract::Weights& weights, std::int32_t local_expert,
                 std::int64_t block, std::span<const RowView> rows, double* activated, std::int64_t pitch,
                 std::uint8_t* out_of_range);

/// Columns 128 * block .. + 127 of gemm2's product for `rows`, likewise.
void gemm2_block(const contract::Geometry& geometry, const contract::Weights& weights, std::int32_t local_expert,
                 std::int64_t block, std::span<const RowView> rows, double* out, std::int64_t pitch,
                 std::uint8_t* out_of_range);

/// Whole stages, for tests of a backend's stages alone. `threads` 0 = all that the process may run on.
Products gemm1_oracle(const contract::Geometry& geometry, const contract::Weights& weights, std::int32_t local_expert,
                      const ScaledRows& hidden, int threads = 0);
Products gemm2_oracle(const contract::Geometry& geometry, const contract::Weights& weights, std::int32_t local_expert,
                      const ScaledRows& inter, int threads = 0);

}  // namespace blockmoe::verify
