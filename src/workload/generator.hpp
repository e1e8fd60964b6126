// generator.hpp: whole tensors of the numbers of draw.h, in host memory. The bytes depend on the arguments alone, not on `threads`
// (0 = all that the process may run on).
//
// Shapes use T tokens, E experts, H hidden. A tensor is row-major without gaps; element numbers are offsets in it.
#pragma once

#include <cstdint>
#include <vector>

#include "workload/draw.h"

namespace blockmoe::workload {

/// Tables, computed once from additions, multiplications, divisions and square roots of doubles alone, which IEEE 754 fixes
/// to the bit.
const NormalTable& normal_table();
const ClampedCodes& clamped_codes();

/// ln(x) for x >= 1 from the same operations; within 1e-14.
double log_of(double x);

/// out[i] = normal_at(i), i in [0, count).
void draw_normals(float* out, std::int64_t count, std::uint64_t seed, DrawStream stream, int threads);

/// out[i] = clamped_code_at(i): the official profile's e4m3 tensors.
void draw_clamped_codes(std::uint8_t* out, std::int64_t count, std::uint64_t seed, DrawStream stream, int threads);

/// `matrices` of [rows, columns] (multiples of 128): weight_at() of each element, quantised per 128x128 block with
/// scale = amax/448 (contract/requantise.h). codes [matrices, rows, columns], scales [matrices, rows/128, columns/128].
void draw_quantised_weights(std::uint8_t* codes, float* scales, std::int64_t matrices, std::int64_t rows,
                            std::int64_t columns, std::uint64_t seed, DrawStream stream, int threads);

/// activation_of() each (token, channel), quantised per token and 128 channels with scale = amax/448.
/// codes [T, H], scales [H/128, T].
void draw_quantised_activations(std::uint8_t* codes, float* scales, std::int64_t tokens, std::int64_t hidden,
                                std::uint64_t seed, int threads);

/// A permutation of 0..experts-1: order[r] is the expert of popularity rank r.
std::vector<std::int32_t> expert_order(std::int32_t experts, std::uint64_t seed);

}  // namespace blockmoe::workload
