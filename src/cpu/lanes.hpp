// lanes.hpp: the stages' element-wise arithmetic, in loops that the compiler turns into vector code.
//
// All of it is kernels/contract's: these are the loops around it, compiled for the vectors that the paths above `plain`
// need anyway (AVX2 and FMA on x86), with the same bits whatever the vector's length.
#pragma once

#include <cstdint>

namespace blockmoe::cpu {

/// What routing needs of one token: mixing scores and choice scores, [experts] each.
void score_experts(const float* logits, const float* bias, std::int32_t experts, float* mixing, float* choice);

/// codes[128] and the returned scale of silu(gate) * up, [128] each; residuals[128], the second terms, unless null.
float swiglu_requantise(const float* up, const float* gate, std::uint8_t* codes, std::uint8_t* residuals = nullptr);

/// output[width] = the sum of weights[i] * rows[i], taken in order, rounded to bf16 or as it is; zeros where count is 0.
/// width is a multiple of 128.
void weighted_sum(const float* const* rows, const float* weights, std::int32_t count, std::int64_t width,
                  std::uint16_t* output);
void weighted_sum(const float* const* rows, const float* weights, std::int32_t count, std::int64_t width,
                  float* output);

}  // namespace blockmoe::cpu
