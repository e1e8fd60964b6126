// host_device.h: the few things that let one definition serve hosts and devices with the same bits.
//
// rn:: holds fp32 operations that round once, to nearest even, and are never contracted: intrinsics on the device; on a
// host, plain operators in a file compiled with -ffp-contract=off (the build sets it for the whole project).
//
// Everything is always inlined: a file compiled for a wider instruction set than the rest then leaves no copy behind that
// the linker could choose for files which must run without it. Hence ::fmaf too, and not the template in <cmath>.
#pragma once

#include <math.h>

#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define BLOCKMOE_HD __host__ __device__ __forceinline__
#elif defined(__GNUC__)
#define BLOCKMOE_HD inline __attribute__((always_inline))
#else
#define BLOCKMOE_HD inline
#endif

namespace blockmoe::contract {

BLOCKMOE_HD std::uint32_t bits_of(float x) {
#if defined(__CUDA_ARCH__)
  return __float_as_uint(x);
#else
  std::uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
#endif
}

BLOCKMOE_HD float float_of(std::uint32_t bits) {
#if defined(__CUDA_ARCH__)
  return __uint_as_float(bits);
#else
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
#endif
}

namespace rn {

BLOCKMOE_HD float add(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fadd_rn(a, b);
#else
  return a + b;
#endif
}

BLOCKMOE_HD float mul(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fmul_rn(a, b);
#else
  return a * b;
#endif
}

BLOCKMOE_HD float fma(float a, float b, float c) {
#if defined(__CUDA_ARCH__)
  return __fmaf_rn(a, b, c);
#else
  return ::fmaf(a, b, c);
#endif
}

BLOCKMOE_HD float div(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fdiv_rn(a, b);
#else
  return a / b;
#endif
}

}  // namespace rn
}  // namespace blockmoe::contract
