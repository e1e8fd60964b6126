// expert_oracle.hpp: one local expert's products in FP64, a stage at a time, for tests of a backend's stages alone.
//
//   hidden [T, H], w13 [L, 2I, H] -> activated [rows, I] = silu(gate) * up, not requantised
//   inter  [rows, I],  w2 [L, H, I] -> out     [rows, H]
//
// Weights are decoded block by block (128 x 128) into cache and multiplied there; no expert is ever held in FP64 whole.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "contract/call.h"
#include "contract/geometry.h"

namespace blockmoe::verify {

struct Rows {
  std::vector<double> values;              // [rows, width], width = I or H
  std::vector<std::uint8_t> may_overflow;  // [rows]: a partial sum left fp32's range, or may leave it in another order
};

/// silu(gate) * up of `tokens` for one local expert, before requantisation.
Rows gemm1_oracle(const contract::Geometry& geometry, const contract::Weights& weights,
                  const contract::Activations& activations, std::int32_t local_expert,
                  std::span<const std::int64_t> tokens, int threads);

/// The product of gemm2 for rows of given values (codes times scales, or not requantised at all).
Rows gemm2_oracle(const contract::Geometry& geometry, const contract::Weights& weights, std::int32_t local_expert,
                  std::span<const double> inter, int threads);

/// Values of e4m3 codes [rows, I] with scales [I/128, rows], pitches in elements: what gemm2_oracle takes when it is fed
/// a kernel's own codes.
std::vector<double> decode_rows(const contract::Geometry& geometry, const std::uint8_t* codes, std::int64_t codes_pitch,
                                const float* scales, std::int64_t scales_pitch, std::int64_t rows);

/// Each row's blocks of 128 rounded to e4m3 with scale amax/448, as values again.
std::vector<double> requantise_rows(std::span<const double> values);

}  // namespace blockmoe::verify
