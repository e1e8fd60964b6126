// Compiled with its own flags; includes nothing but the contract, whose functions are always inlined.
#include "cpu/lanes.hpp"

#include "contract/e4m3.h"
#include "contract/exp.h"
#include "contract/geometry.h"
#include "contract/requantise.h"
#include "contract/routing.h"

namespace blockmoe::cpu {
namespace {

constexpr int kBlock = static_cast<int>(contract::kScaleBlock);
constexpr int kLanes = 16;

// The largest magnitude; the order of a maximum does not matter.
float amax(const float (&values)[kBlock]) {
  float largest[kLanes] = {};
  for (int i = 0; i < kBlock; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) largest[lane] = contract::amax_step(largest[lane], values[i + lane]);
  }
  for (int lane = 1; lane < kLanes; ++lane) largest[0] = contract::amax_step(largest[0], largest[lane]);
  return largest[0];
}

void store(float x, std::uint16_t* at) {
  *at = contract::bf16_encode(x);
}
void store(float x, float* at) {
  *at = x;
}

template <typename Out>
void sum_rows(const float* const* rows, const float* weights, std::int32_t count, std::int64_t width, Out* output) {
  for (std::int64_t begin = 0; begin < width; begin += kBlock) {
    float sum[kBlock] = {};
    for (std::int32_t i = 0; i < count; ++i) {
      const float* row = rows[i] + begin;
      for (int j = 0; j < kBlock; ++j) sum[j] = contract::rn::fma(weights[i], row[j], sum[j]);
    }
    for (int j = 0; j < kBlock; ++j) store(sum[j], output + begin + j);
  }
}

}  // namespace

void score_experts(const float* logits, const float* bias, std::int32_t experts, float* mixing, float* choice) {
  for (std::int32_t e = 0; e < experts; ++e) {
    mixing[e] = contract::mixing_score(logits[e]);
    choice[e] = contract::choice_score(contract::sigmoid(logits[e]), bias[e]);
  }
}

float swiglu_requantise(const float* up, const float* gate, std::uint8_t* codes, std::uint8_t* residuals) {
  float values[kBlock];
  for (int i = 0; i < kBlock; ++i) values[i] = contract::rn::mul(contract::silu(gate[i]), up[i]);
  const contract::BlockScale scale = contract::block_scale(amax(values));
  for (int i = 0; i < kBlock; ++i) codes[i] = contract::requantise(values[i], scale.inverse);
  if (residuals != nullptr) {
    for (int i = 0; i < kBlock; ++i) {
      residuals[i] = contract::requantise_residual(values[i], scale.inverse, codes[i]);
    }
  }
  return scale.scale;
}

void weighted_sum(const float* const* rows, const float* weights, std::int32_t count, std::int64_t width,
                  std::uint16_t* output) {
  sum_rows(rows, weights, count, width, output);
}

void weighted_sum(const float* const* rows, const float* weights, std::int32_t count, std::int64_t width,
                  float* output) {
  sum_rows(rows, weights, count, width, output);
}

}  // namespace blockmoe::cpu
