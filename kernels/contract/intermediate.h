// intermediate.h: what an intermediate value is between gemm1 and gemm2.
//
// A value is the sum of its terms, each an e4m3 code times a scale that 128 values of a row share (requantise.h). With t terms:
//
//   inter        [rows, t, I]      e4m3
//   inter_scale  [I/128, rows, t]  f32
//
// To gemm2 a row's terms are rows of their own that meet the same weights, and whose products are summed in fp32.
#pragma once

#include <cstdint>

#include "contract/host_device.h"

namespace blockmoe::contract {

enum class IntermediateType : std::int32_t {
  e4m3,
  e4m3x2,  // and a second code for what the first leaves over
};

BLOCKMOE_HD std::int32_t terms_of(IntermediateType type) {
  return type == IntermediateType::e4m3x2 ? 2 : 1;
}

}  // namespace blockmoe::contract
