// e4m3.h: the 8-bit float of the operator (OCP FP8 E4M3: 4 exponent bits of bias 7, 3 mantissa bits, no infinities,
// S.1111.111 is NaN, largest finite value 448) and bf16.
#pragma once

#include "contract/host_device.h"

#if defined(__CUDACC__)
#include <cuda_fp8.h>
#endif

namespace blockmoe::contract {

inline constexpr float kE4m3Max = 448.0f;
inline constexpr std::uint8_t kE4m3NaN = 0x7f;

BLOCKMOE_HD float e4m3_decode(std::uint8_t code) {
  const std::uint32_t sign = static_cast<std::uint32_t>(code & 0x80u) << 24;
  const std::uint32_t magnitude = code & 0x7fu;
  if (magnitude == 0x7fu) return float_of(sign | 0x7fc00000u);
  if (magnitude < 8u) {  // subnormal: mantissa * 2^-9
    const float value = static_cast<float>(magnitude) * 0.001953125f;
    return float_of(bits_of(value) | sign);
  }
  return float_of(sign | ((magnitude << 20) + (120u << 23)));
}

// Round to nearest even, saturating at +-448 (Inf too); NaN gives 0x7f.
BLOCKMOE_HD std::uint8_t e4m3_encode(float x) {
#if defined(__CUDA_ARCH__)
  return static_cast<std::uint8_t>(__nv_cvt_float_to_fp8(x, __NV_SATFINITE, __NV_E4M3));
#else
  const std::uint32_t bits = bits_of(x);
  const std::uint32_t sign = (bits >> 24) & 0x80u;
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return kE4m3NaN;
  if (magnitude >= 0x43e00000u) return static_cast<std::uint8_t>(sign | 0x7eu);
  if (magnitude < 0x3c800000u) {  // below 2^-6: multiples of 2^-9, the ulp of 2^14
    constexpr float kShift = 16384.0f;
    return static_cast<std::uint8_t>(sign | (bits_of(float_of(magnitude) + kShift) - bits_of(kShift)));
  }
  const std::uint32_t rounded = magnitude + 0x7ffffu + ((magnitude >> 20) & 1u);
  return static_cast<std::uint8_t>(sign | ((rounded >> 20) - (120u << 3)));
#endif
}

BLOCKMOE_HD float bf16_decode(std::uint16_t bits) {
  return float_of(static_cast<std::uint32_t>(bits) << 16);
}

// Round to nearest even; NaN gives 0x7fff, as the device's own conversion does.
BLOCKMOE_HD std::uint16_t bf16_encode(float x) {
  const std::uint32_t bits = bits_of(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fffu;
  return static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

}  // namespace blockmoe::contract
