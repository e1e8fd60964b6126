// combine.cu: a token's output row is the weighted sum of its local picks' rows, in pick order, in fp32, rounded once.
//
//   rows      [R, H] f32 or bf16     pick_row [T', P], pick_weight [T', P]
//   output    [T', H] bf16 out, rows aligned to 16 bytes: every element of the chunk's tokens, zeros for a token without
//             a local pick
//
// A CTA takes (token, segment of 1024 columns), 8 columns a thread.
#include <cstdint>

#include <cuda_bf16.h>

#include "checked.h"
#include "launch.h"
#include "ptx/griddepcontrol.h"
#include "stages/stages.h"
#include "trace.h"

namespace blockmoe::kernels::stages {
namespace {

constexpr int kThreads = 128;
constexpr int kColumnsAThread = 8;
constexpr int kSegment = kThreads * kColumnsAThread;
constexpr int kCtasAnSm = 16;

struct CombineParams {
  int hidden;  // H
  int tokens;  // T'
  int picks;   // P
  int chunk;
  std::uint16_t* output;
  std::int64_t output_pitch;
  Workspace workspace;
};

__device__ void load(const float* at, float (&x)[kColumnsAThread]) {
  const float4 low = *reinterpret_cast<const float4*>(at);
  const float4 high = *reinterpret_cast<const float4*>(at + 4);
  x[0] = low.x, x[1] = low.y, x[2] = low.z, x[3] = low.w;
  x[4] = high.x, x[5] = high.y, x[6] = high.z, x[7] = high.w;
}

__device__ void load(const __nv_bfloat16* at, float (&x)[kColumnsAThread]) {
  const uint4 raw = *reinterpret_cast<const uint4*>(at);
  const std::uint32_t words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    x[2 * i] = __uint_as_float(words[i] << 16);
    x[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
  }
}

__device__ void store(const float (&x)[kColumnsAThread], std::uint16_t* at) {
  std::uint32_t words[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(x[2 * i], x[2 * i + 1]);
    words[i] = *reinterpret_cast<const std::uint32_t*>(&pair);
  }
  *reinterpret_cast<uint4*>(at) = make_uint4(words[0], words[1], words[2], words[3]);
}

template <typename Row>
__global__ void __launch_bounds__(kThreads) combine(const __grid_constant__ CombineParams p) {
  ptx::griddepcontrol_wait();
  ptx::griddepcontrol_launch_dependents();
  const Chunk chunk = p.workspace.chunks[p.chunk];
  const int segments = (p.hidden + kSegment - 1) / kSegment;
  const std::int64_t units = static_cast<std::int64_t>(chunk.token_end - chunk.token_begin) * segments;
  for (std::int64_t unit = blockIdx.x; unit < units; unit += gridDim.x) {
    const int token = chunk.token_begin + static_cast<int>(unit / segments);
    const int column = static_cast<int>(unit % segments) * kSegment + static_cast<int>(threadIdx.x) * kColumnsAThread;
    if (column >= p.hidden) continue;
    BLOCKMOE_CHECK(token >= 0 && token < p.tokens);
    const std::int64_t slots = static_cast<std::int64_t>(token) * p.picks;
    float sum[kColumnsAThread] = {};
    for (int pick = 0; pick < p.picks; ++pick) {
      const std::int32_t row = p.workspace.pick_row[slots + pick];
      BLOCKMOE_CHECK(row >= -1 && row < chunk.rows);
      if (row < 0) break;
      const float weight = p.workspace.pick_weight[slots + pick];
      float x[kColumnsAThread];
      load(static_cast<const Row*>(p.workspace.rows) + static_cast<std::int64_t>(row) * p.hidden + column, x);
#pragma unroll
      for (int i = 0; i < kColumnsAThread; ++i) sum[i] = __fmaf_rn(weight, x[i], sum[i]);
    }
    store(sum, p.output + token * p.output_pitch + column);
  }
}

}  // namespace

Error launch_combine(const Slab& slab, std::int32_t chunk, cudaStream_t stream) {
  const TraceRange range("combine");
  const contract::Activations& a = slab.activations;
  CombineParams p = {};
  p.hidden = static_cast<int>(slab.geometry.hidden);
  p.tokens = static_cast<int>(a.tokens);
  p.picks = slab.sizes.picks;
  p.chunk = chunk;
  p.output = a.output;
  p.output_pitch = a.output_pitch;
  p.workspace = slab.workspace;
  const std::int64_t segments = (slab.geometry.hidden + kSegment - 1) / kSegment;
  const std::int64_t most = static_cast<std::int64_t>(slab.sms) * kCtasAnSm;
  LaunchShape shape;
  shape.grid = static_cast<unsigned>(a.tokens * segments < most ? a.tokens * segments : most);
  shape.block = kThreads;
  shape.dependent = slab.dependent_launches;
  return slab.sizes.row_type == plan::RowType::f32 ? launch_kernel("combine", combine<float>, shape, stream, p)
                                                   : launch_kernel("combine", combine<__nv_bfloat16>, shape, stream, p);
}

Error prepare_combine() {
  return first_error([] { return prepare_kernel("combine", combine<float>); },
                     [] { return prepare_kernel("combine", combine<__nv_bfloat16>); });
}

}  // namespace blockmoe::kernels::stages
