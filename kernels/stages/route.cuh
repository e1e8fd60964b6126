// route.cuh: what both ways of routing share (route.cu for any geometry, route_grouped.cu for one).
#pragma once

#include <cstdint>

#include <cuda_bf16.h>

#include "contract/call.h"
#include "ptx/min_max.h"
#include "stages/layout.h"

namespace blockmoe::kernels::stages {

inline constexpr unsigned kAllLanes = 0xffffffffu;

__device__ __forceinline__ float to_float(float x) {
  return x;
}
__device__ __forceinline__ float to_float(__nv_bfloat16 x) {
  return __bfloat162float(x);
}

struct alignas(8) Bf16x4 {
  __nv_bfloat162 low, high;
};

// Four logits, aligned as a whole.
__device__ __forceinline__ float4 load_four(const float* at) {
  return *reinterpret_cast<const float4*>(at);
}
__device__ __forceinline__ float4 load_four(const __nv_bfloat16* at) {
  const Bf16x4 raw = *reinterpret_cast<const Bf16x4*>(at);
  const float2 low = __bfloat1622float2(raw.low);
  const float2 high = __bfloat1622float2(raw.high);
  return make_float4(low.x, low.y, high.x, high.y);
}

inline bool readable_by_four(const void* logits, contract::FloatType type, std::int64_t pitch) {
  const std::uintptr_t bytes = type == contract::FloatType::f32 ? 16 : 8;
  return reinterpret_cast<std::uintptr_t>(logits) % bytes == 0 && pitch % 4 == 0;
}

// bias[expert] of either type; 0 where there is no bias.
__device__ __forceinline__ float bias_of(const void* bias, contract::FloatType type, int expert) {
  if (bias == nullptr) return 0.0f;
  return type == contract::FloatType::f32 ? static_cast<const float*>(bias)[expert]
                                          : to_float(static_cast<const __nv_bfloat16*>(bias)[expert]);
}

// Whether `expert` is one of the `local_experts` from `offset` on, both of any value.
__device__ __forceinline__ bool is_local(std::int32_t expert, std::int32_t offset, int local_experts) {
  return static_cast<std::uint32_t>(expert) - static_cast<std::uint32_t>(offset) <
         static_cast<std::uint32_t>(local_experts);
}

// The two largest of what was added; NaN once a NaN was.
struct TopTwo {
  float best = -INFINITY;
  float second = -INFINITY;

  __device__ void add(float x) {
    second = ptx::max_nan(second, ptx::min_nan(best, x));
    best = ptx::max_nan(best, x);
  }
  __device__ void add(const TopTwo& other) {
    second = ptx::max_nan(ptx::max_nan(second, other.second), ptx::min_nan(best, other.best));
    best = ptx::max_nan(best, other.best);
  }
};

// Of this CTA's token block: counts [L] from shared to global memory, and their sum. Where nobody packs they have no place.
__device__ __forceinline__ void write_counts(const Workspace& workspace, int local_experts,
                                             const std::int32_t* counts) {
  if (workspace.block_counts == nullptr) return;
  __syncthreads();
  const int pitch = static_cast<int>(counts_pitch(local_experts));
  std::uint8_t* const out = workspace.block_counts + static_cast<std::int64_t>(blockIdx.x) * pitch;
#pragma unroll 1  // once round as a rule: copies of the body would only be instructions to fetch
  for (int e = static_cast<int>(threadIdx.x); e < pitch; e += static_cast<int>(blockDim.x)) {
    out[e] = static_cast<std::uint8_t>(e < local_experts ? counts[e] : 0);
  }
  if (threadIdx.x < 32) {
    int rows = 0;
#pragma unroll 1
    for (int e = static_cast<int>(threadIdx.x); e < local_experts; e += 32) rows += counts[e];
    rows = __reduce_add_sync(kAllLanes, rows);
    if (threadIdx.x == 0) workspace.block_rows[blockIdx.x] = rows;
  }
}

}  // namespace blockmoe::kernels::stages
