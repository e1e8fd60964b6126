// combine.cu: a token's output row is the weighted sum of its local picks' rows, in pick order, in fp32, rounded once.
//
//   rows      [R, H] f32, bf16, or fp16 with row_exponent (short_rows.cuh)     pick_row [T', P], pick_weight [T', P]
//   output    [T', H] bf16 or f32 out, rows aligned to 16 bytes: every element of the chunk's tokens, zeros for a token
//             without a local pick, unless the products have written them. f32 is the sum before its rounding
//
// A CTA takes (token, segment of 7168 columns), two vectors of 8 columns a thread: enough on its way for memory's full rate (2
// picks a token, 2 CTAs an SM: 57 KB), and a token's picks are looked up once. It looks up the next unit's rows while this one's are
// on their way (the first one's before gemm2 has ended: they are pack's, and pack ended before gemm2 began).
#include <cstdint>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "checked.h"
#include "launch.h"
#include "ptx/griddepcontrol.h"
#include "stages/short_rows.cuh"
#include "stages/stages.h"
#include "trace.h"

namespace blockmoe::kernels::stages {
namespace {

constexpr int kThreads = 448;
constexpr int kColumnsAVector = 8;
constexpr int kVectors = 2;  // of a thread
constexpr int kSegment = kThreads * kColumnsAVector * kVectors;
constexpr int kCtasAnSm = 2;
constexpr unsigned kAllLanes = 0xffffffffu;

static_assert(contract::kMaxTopK <= 32, "a lane a pick");

struct CombineParams {
  int hidden;  // H
  int tokens;  // T'
  int picks;   // P
  int chunk;
  bool zeros_written;         // Slab's
  std::int64_t row_capacity;  // R
  void* output;
  std::int64_t output_pitch;
  Workspace workspace;
};

// 8 columns of a row as they lie in memory.
template <typename Row>
struct Columns;

template <>
struct Columns<float> {
  float4 low, high;

  __device__ void load(const CombineParams& p, std::int64_t row, int column) {
    const float* const at = static_cast<const float*>(p.workspace.rows) + row * p.hidden + column;
    low = *reinterpret_cast<const float4*>(at);
    high = *reinterpret_cast<const float4*>(at + 4);
  }
  __device__ void add_to(float (&sum)[kColumnsAVector], float weight) const {
    const float x[kColumnsAVector] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
    for (int i = 0; i < kColumnsAVector; ++i) sum[i] = __fmaf_rn(weight, x[i], sum[i]);
  }
};

template <>
struct Columns<__nv_bfloat16> {
  uint4 pairs;

  __device__ void load(const CombineParams& p, std::int64_t row, int column) {
    pairs =
        *reinterpret_cast<const uint4*>(static_cast<const __nv_bfloat16*>(p.workspace.rows) + row * p.hidden + column);
  }
  __device__ void add_to(float (&sum)[kColumnsAVector], float weight) const {
    const std::uint32_t words[kColumnsAVector / 2] = {pairs.x, pairs.y, pairs.z, pairs.w};
#pragma unroll
    for (int i = 0; i < kColumnsAVector / 2; ++i) {
      sum[2 * i] = __fmaf_rn(weight, __uint_as_float(words[i] << 16), sum[2 * i]);
      sum[2 * i + 1] = __fmaf_rn(weight, __uint_as_float(words[i] & 0xffff0000u), sum[2 * i + 1]);
    }
  }
};

template <>
struct Columns<__half> {
  uint4 pairs;
  std::uint32_t exponent;

  __device__ void load(const CombineParams& p, std::int64_t row, int column) {
    pairs = *reinterpret_cast<const uint4*>(static_cast<const __half*>(p.workspace.rows) + row * p.hidden + column);
    exponent = p.workspace.row_exponent[place_of_exponent(p.hidden, row, column)];
  }
  // Where weight * scale is a denormal number, what it loses is below bf16's smallest.
  __device__ void add_to(float (&sum)[kColumnsAVector], float weight) const {
    const float factor = __fmul_rn(weight, from_short_scale(exponent));
    const std::uint32_t words[kColumnsAVector / 2] = {pairs.x, pairs.y, pairs.z, pairs.w};
#pragma unroll
    for (int i = 0; i < kColumnsAVector / 2; ++i) {
      const float2 codes = codes_of_short_pair(words[i]);
      sum[2 * i] = __fmaf_rn(factor, codes.x, sum[2 * i]);
      sum[2 * i + 1] = __fmaf_rn(factor, codes.y, sum[2 * i + 1]);
    }
  }
};

__device__ void store(const float (&x)[kColumnsAVector], float* at) {
  reinterpret_cast<float4*>(at)[0] = make_float4(x[0], x[1], x[2], x[3]);
  reinterpret_cast<float4*>(at)[1] = make_float4(x[4], x[5], x[6], x[7]);
}
__device__ void store(const float (&x)[kColumnsAVector], __nv_bfloat16* at) {
  std::uint32_t words[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(x[2 * i], x[2 * i + 1]);
    words[i] = *reinterpret_cast<const std::uint32_t*>(&pair);
  }
  *reinterpret_cast<uint4*>(at) = make_uint4(words[0], words[1], words[2], words[3]);
}

template <typename Row, typename Out>
__global__ void __launch_bounds__(kThreads, kCtasAnSm) combine(const __grid_constant__ CombineParams p) {
  constexpr int kRowsAtOnce = sizeof(Row) == 2 ? 2 : 1;  // that a thread waits for, as registers allow
  const Chunk chunk = p.workspace.chunks[p.chunk];
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const auto segments = static_cast<unsigned>((p.hidden + kSegment - 1) / kSegment);
  const unsigned units = static_cast<unsigned>(chunk.token_end - chunk.token_begin) * segments;
  const auto slots_of = [&](unsigned unit) {
    return (chunk.token_begin + static_cast<std::int64_t>(unit / segments)) * p.picks;
  };
  // Lane i gets the row of pick i; a token's picks come first, then -1.
  const auto row_of_lane = [&](unsigned unit) {
    return unit < units && lane < p.picks ? p.workspace.pick_row[slots_of(unit) + lane] : -1;
  };

  std::int32_t next_row = row_of_lane(blockIdx.x);
  ptx::griddepcontrol_wait();
  ptx::griddepcontrol_launch_dependents();
  for (unsigned unit = blockIdx.x; unit < units; unit += gridDim.x) {
    const std::int32_t row = next_row;
    next_row = row_of_lane(unit + gridDim.x);
    BLOCKMOE_CHECK(row >= -1 && row < p.row_capacity);
    const float weight = row >= 0 ? p.workspace.pick_weight[slots_of(unit) + lane] : 0.0f;
    const int picks = __popc(__ballot_sync(kAllLanes, row >= 0));
    if (picks == 0 && p.zeros_written) continue;
    const int column =
        static_cast<int>(unit % segments) * kSegment + static_cast<int>(threadIdx.x) * kColumnsAVector;  // of vector 0
    const auto column_of = [&](int vector) { return column + vector * (kThreads * kColumnsAVector); };
    float sum[kVectors][kColumnsAVector] = {};
    for (int first = 0; first < picks; first += kRowsAtOnce) {
      Columns<Row> columns[kRowsAtOnce][kVectors];
#pragma unroll
      for (int i = 0; i < kRowsAtOnce; ++i) {
        const std::int64_t at = __shfl_sync(kAllLanes, row, min(first + i, picks - 1));
#pragma unroll
        for (int v = 0; v < kVectors; ++v) {
          if (first + i < picks && column_of(v) < p.hidden) columns[i][v].load(p, at, column_of(v));
        }
      }
#pragma unroll
      for (int i = 0; i < kRowsAtOnce; ++i) {
        const float w = __shfl_sync(kAllLanes, weight, min(first + i, picks - 1));
#pragma unroll
        for (int v = 0; v < kVectors; ++v) {
          if (first + i < picks) columns[i][v].add_to(sum[v], w);
        }
      }
    }
    const std::int64_t token = chunk.token_begin + static_cast<std::int64_t>(unit / segments);
    BLOCKMOE_CHECK(token >= 0 && token < p.tokens);
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      if (column_of(v) < p.hidden) store(sum[v], static_cast<Out*>(p.output) + token * p.output_pitch + column_of(v));
    }
  }
}

using Kernel = void (*)(CombineParams);

template <typename Row>
Kernel kernel_of(contract::FloatType output) {
  return output == contract::FloatType::f32 ? combine<Row, float> : combine<Row, __nv_bfloat16>;
}

Kernel kernel_of(plan::RowType rows, contract::FloatType output) {
  switch (rows) {
    case plan::RowType::f32:
      return kernel_of<float>(output);
    case plan::RowType::bf16:
      return kernel_of<__nv_bfloat16>(output);
    case plan::RowType::f16:
      return kernel_of<__half>(output);
  }
  return nullptr;
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
  p.zeros_written = slab.zeros_written;
  p.row_capacity = slab.sizes.row_capacity;
  p.output = a.output;
  p.output_pitch = a.output_pitch;
  p.workspace = slab.workspace;
  const std::int64_t segments = (slab.geometry.hidden + kSegment - 1) / kSegment;
  const std::int64_t most = static_cast<std::int64_t>(slab.sms) * kCtasAnSm;
  LaunchShape shape;
  shape.grid = static_cast<unsigned>(a.tokens * segments < most ? a.tokens * segments : most);
  shape.block = kThreads;
  shape.dependent = slab.dependent_launches;
  return launch_kernel("combine", kernel_of(slab.sizes.row_type, a.output_type), shape, stream, p);
}

Error prepare_combine() {
  Error error;
  for (const plan::RowType rows : {plan::RowType::f32, plan::RowType::bf16, plan::RowType::f16}) {
    for (const contract::FloatType output : {contract::FloatType::f32, contract::FloatType::bf16}) {
      if (error.ok()) error = prepare_kernel("combine", kernel_of(rows, output));
    }
  }
  return error;
}

}  // namespace blockmoe::kernels::stages
