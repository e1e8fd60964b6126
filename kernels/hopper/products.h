// products.h: the Hopper path's gemm1 and gemm2, one kernel, as the path launches it between pack and combine. Host.
//
// Beside the shared workspace (stages/layout.h) they need some of their own: Scratch.
#pragma once

#include <cuda.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "contract/call.h"
#include "contract/geometry.h"
#include "plan/hopper_tuning.h"
#include "stages/slab.h"

namespace blockmoe::kernels::hopper {

using Width = plan::HopperWidth;
using Config = plan::HopperConfig;

// Loads a width's kernels on the current device: once does for every geometry.
cudaError_t prepare(Width width);

// Of one set of weights.
struct Maps {
  CUtensorMap w13;  // [L * 2I, H] in boxes of 128 x 128
  CUtensorMap w2;   // [L * H, I]
};

cudaError_t make_maps(const contract::Geometry& geometry, const contract::Weights& weights, Maps* maps);

// Sums of tiles that several CTAs share, the flags that say they are there, how many parts CTAs have taken, and how much of
// each expert's gemm1 is finished. Flags and counters are zero when the products start: pack sees to that (Slab::counters).
struct Scratch {
  float4* sums = nullptr;
  std::uint32_t* flags = nullptr;  // [chunks, flag_words]: [2 products, sms, 2], parts taken, [L] warps that finished
};

constexpr std::int32_t flag_words(std::int32_t sms, std::int32_t local_experts) {
  return sms * 4 + 1 + local_experts;
}
constexpr std::size_t flag_bytes(std::int32_t sms, std::int32_t local_experts, std::int32_t chunks) {
  return static_cast<std::size_t>(flag_words(sms, local_experts)) * static_cast<std::size_t>(chunks) *
         sizeof(std::uint32_t);
}
// Of both products, for every width up to `widest`.
constexpr std::size_t sum_bytes(std::int32_t sms, Width widest) {
  return static_cast<std::size_t>(sms) * 2 * static_cast<std::size_t>(widest) * 256 * sizeof(float);
}

// What pack leaves zero, where the products are launched without it: as bench does, to time them alone.
cudaError_t launch_clear(const stages::Slab& slab, cudaStream_t stream);

// hidden, w13 -> inter, and inter, w2 -> rows; one of them alone where the slab wants no more. The kernels before it in the
// stream may be running still (programmatic dependent launch).
cudaError_t launch_products(const stages::Slab& slab, std::int32_t chunk, const Maps& maps, const Scratch& scratch,
                            const Config& config, cudaStream_t stream);

}  // namespace blockmoe::kernels::hopper
