// swiglu.cu: silu(gate) * up of gemm1's sums, requantised a row and 128 columns at a time.
//
//   gate_up      [rows, 2I]        f32 or bf16, one half up, the other gate
//   inter        [rows, I]         e4m3 out
//   inter_scale  [I/128, pitch]    f32 out
//
// A warp takes (row, 128 columns), 4 neighbouring columns a lane; rows are the fast direction of its walk, so that CTAs that run at
// the same time write neighbouring scales. Bound by memory: 8 or 4 bytes of gate_up are read for each byte written.
#include <cstdint>

#include "checked.h"
#include "contract/requantise.h"
#include "launch.h"
#include "stages/sigmoid.cuh"
#include "stages/swiglu.h"
#include "trace.h"

namespace blockmoe::kernels::stages {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kCtasAnSm = 8;
constexpr int kColumns = 4;  // of a lane
constexpr unsigned kAllLanes = 0xffffffffu;
static_assert(32 * kColumns == contract::kScaleBlock);

struct SwigluParams {
  const void* gate_up;
  std::int64_t intermediate;  // I
  std::int64_t up_column;
  std::int64_t gate_column;
  const std::int32_t* rows;
  const std::int32_t* scale_pitch;
  std::int64_t row_capacity;
  std::uint8_t* inter;
  float* inter_scale;
};

__device__ void load_four(const float* at, float (&x)[kColumns]) {
  const float4 four = *reinterpret_cast<const float4*>(at);
  x[0] = four.x;
  x[1] = four.y;
  x[2] = four.z;
  x[3] = four.w;
}

// bf16, two a word.
__device__ void load_four(const std::uint16_t* at, float (&x)[kColumns]) {
  const uint2 pairs = *reinterpret_cast<const uint2*>(at);
  x[0] = __uint_as_float(pairs.x << 16);
  x[1] = __uint_as_float(pairs.x & 0xffff0000u);
  x[2] = __uint_as_float(pairs.y << 16);
  x[3] = __uint_as_float(pairs.y & 0xffff0000u);
}

template <typename Sum>
__device__ void take_block(const SwigluParams& p, std::int64_t row, std::int64_t block, std::int64_t scale_pitch) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const std::int64_t column = block * contract::kScaleBlock + lane * kColumns;
  const Sum* const sums = static_cast<const Sum*>(p.gate_up) + row * 2 * p.intermediate + column;
  float up[kColumns];
  float gate[kColumns];
  load_four(sums + p.up_column, up);
  load_four(sums + p.gate_column, gate);
  float values[kColumns];
  float amax = 0.0f;
#pragma unroll
  for (int c = 0; c < kColumns; ++c) {
    values[c] = __fmul_rn(__fmul_rn(gate[c], sigmoid(gate[c])), up[c]);
    amax = contract::amax_step(amax, values[c]);
  }
#pragma unroll
  for (int distance = 1; distance < 32; distance *= 2) {
    const float other = __shfl_xor_sync(kAllLanes, amax, distance);
    amax = other > amax ? other : amax;
  }
  const contract::BlockScale scale = contract::block_scale(amax);
  std::uint32_t codes = 0;
#pragma unroll
  for (int c = 0; c < kColumns; ++c) {
    codes |= static_cast<std::uint32_t>(contract::requantise(values[c], scale.inverse)) << (8 * c);
  }
  *reinterpret_cast<std::uint32_t*>(p.inter + row * p.intermediate + column) = codes;
  if (lane == 0) p.inter_scale[block * scale_pitch + row] = scale.scale;
}

template <typename Sum>
__global__ void __launch_bounds__(kThreads) swiglu(const __grid_constant__ SwigluParams p) {
  const std::int64_t rows = *p.rows;
  const std::int64_t scale_pitch = *p.scale_pitch;
  BLOCKMOE_CHECK(rows >= 0 && rows <= p.row_capacity);
  const std::int64_t units = rows * (p.intermediate / contract::kScaleBlock);
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kWarps;
  for (std::int64_t unit = first; unit < units; unit += step) {
    const std::int64_t block = unit / rows;
    take_block<Sum>(p, unit - block * rows, block, scale_pitch);
  }
}

}  // namespace

Error launch_swiglu(const SwigluCall& call, cudaStream_t stream) {
  const TraceRange range("swiglu");
  SwigluParams p = {};
  p.gate_up = call.gate_up;
  p.intermediate = call.intermediate;
  p.up_column = call.up_column;
  p.gate_column = call.gate_column;
  p.rows = call.rows;
  p.scale_pitch = call.scale_pitch;
  p.row_capacity = call.row_capacity;
  p.inter = call.inter;
  p.inter_scale = call.inter_scale;
  const std::int64_t needed = (call.row_capacity * (call.intermediate / contract::kScaleBlock) + kWarps - 1) / kWarps;
  const std::int64_t most = static_cast<std::int64_t>(call.sms) * kCtasAnSm;
  LaunchShape shape;
  shape.grid = static_cast<unsigned>(needed < most ? needed : most);
  shape.block = kThreads;
  return call.type == plan::RowType::f32 ? launch_kernel("swiglu", swiglu<float>, shape, stream, p)
                                         : launch_kernel("swiglu", swiglu<std::uint16_t>, shape, stream, p);
}

Error prepare_swiglu() {
  return first_error([] { return prepare_kernel("swiglu", swiglu<float>); },
                     [] { return prepare_kernel("swiglu", swiglu<std::uint16_t>); });
}

}  // namespace blockmoe::kernels::stages
