// plain.cpp: the product in C++ alone, for machines that the other files do not know.
//
//   panel        [128, 64]    f32, weight rows fast
//   activations  [rows, 128]  f32
#include "contract/e4m3.h"
#include "cpu/products/products.hpp"

namespace blockmoe::cpu {
namespace {

constexpr int kColumns = 16;  // of a partial held in registers

void nothing() {}

void decode_panel(const std::uint8_t* codes, std::int64_t pitch, void* panel) {
  auto* out = static_cast<float*>(panel);
  for (int n = 0; n < kPanelRows; ++n) {
    for (int k = 0; k < kBlock; ++k) out[k * kPanelRows + n] = contract::e4m3_decode(codes[n * pitch + k]);
  }
}

void decode_activations(const std::uint8_t* const* rows, std::int64_t offset, int count, void* activations) {
  auto* out = static_cast<float*>(activations);
  for (int r = 0; r < count; ++r) {
    for (int k = 0; k < kBlock; ++k) *out++ = contract::e4m3_decode(rows[r][offset + k]);
  }
}

// Products of e4m3 values are exact, so that a multiplication and an addition are one fma.
void multiply_add_row(const float* a, const float* w, float scale, float* acc) {
  float partial[kColumns] = {};
  for (int k = 0; k < kBlock; k += 2) {
    const float even = a[k];
    const float odd = a[k + 1];
    const float* w_even = w + k * kPanelRows;
    const float* w_odd = w_even + kPanelRows;
    for (int n = 0; n < kColumns; ++n) partial[n] += odd * w_odd[n];
    for (int n = 0; n < kColumns; ++n) partial[n] += even * w_even[n];
  }
  for (int n = 0; n < kColumns; ++n) acc[n] = contract::rn::fma(partial[n], scale, acc[n]);
}

void multiply_add(const void* activations, const void* panel, const float* scales, int count, float* acc,
                  std::int64_t acc_pitch) {
  const auto* a = static_cast<const float*>(activations);
  const auto* w = static_cast<const float*>(panel);
  for (int n = 0; n < kPanelRows; n += kColumns) {
    for (int r = 0; r < count; ++r) multiply_add_row(a + r * kBlock, w + n, scales[r], acc + r * acc_pitch + n);
  }
}

}  // namespace

const Products kPlainProducts = {
    .panel_bytes = sizeof(float) * kPanelRows * kBlock,
    .activation_bytes = sizeof(float) * kBlock,
    .enter = nothing,
    .leave = nothing,
    .decode_panel = decode_panel,
    .decode_activations = decode_activations,
    .multiply_add = multiply_add,
};

}  // namespace blockmoe::cpu
