#include "hopper/products.h"

#include "hopper/launch_products.cuh"
#include "hopper/tensor_map.h"

namespace blockmoe::kernels::hopper {

extern template cudaError_t prepare_products<Narrow>(std::int32_t);
extern template cudaError_t launch_products<Narrow>(const CUtensorMap&, const CUtensorMap&, const Params&, std::int32_t,
                                                    cudaStream_t);
extern template cudaError_t prepare_products<Middle>(std::int32_t);
extern template cudaError_t launch_products<Middle>(const CUtensorMap&, const CUtensorMap&, const Params&, std::int32_t,
                                                    cudaStream_t);
extern template cudaError_t prepare_products<Wide>(std::int32_t);
extern template cudaError_t launch_products<Wide>(const CUtensorMap&, const CUtensorMap&, const Params&, std::int32_t,
                                                  cudaStream_t);

// For the most experts: what one plan's need would not do, since the limit is the kernel's and the next plan may have fewer.
cudaError_t prepare(Width width) {
  switch (width) {
    case Width::narrow:
      return prepare_products<Narrow>(contract::kMaxExperts);
    case Width::middle:
      return prepare_products<Middle>(contract::kMaxExperts);
    case Width::wide:
      return prepare_products<Wide>(plan::kMostExpertsWide);
  }
  return cudaErrorInvalidValue;
}

cudaError_t make_maps(const contract::Geometry& geometry, const contract::Weights& weights, Maps* maps) {
  const auto experts = static_cast<std::uint64_t>(geometry.local_experts);
  const auto hidden = static_cast<std::uint64_t>(geometry.hidden);
  const auto intermediate = static_cast<std::uint64_t>(geometry.intermediate);
  const cudaError_t error = make_tensor_map(&maps->w13, weights.w13, experts * 2 * intermediate, hidden, kBoxRows,
                                            kBlock, CU_TENSOR_MAP_SWIZZLE_128B);
  if (error != cudaSuccess) return error;
  return make_tensor_map(&maps->w2, weights.w2, experts * hidden, intermediate, kBoxRows, kBlock,
                         CU_TENSOR_MAP_SWIZZLE_128B);
}

namespace {

__global__ void clear(std::uint32_t* words, std::int32_t count) {
  for (auto i = static_cast<std::int32_t>(threadIdx.x); i < count; i += static_cast<std::int32_t>(blockDim.x)) {
    words[i] = 0;
  }
}

ChunkParams chunk_params(const stages::Slab& slab, std::int32_t chunk, std::uint32_t* counters, const Config& config) {
  ChunkParams p{};
  p.chunk = slab.workspace.chunks + chunk;
  p.first_chunk = chunk == 0;
  p.expert_begin = slab.workspace.expert_begin + static_cast<std::int64_t>(chunk) * (slab.geometry.local_experts + 1);
  p.experts = slab.geometry.local_experts;
  p.most_pieces = config.most_pieces;
  p.cuts_leftover = config.cuts_leftover;
  p.taken = counters;
  p.finished = counters + 1;
  p.zeros.wanted = slab.zeros_written;
  p.zeros.picks = slab.sizes.picks;
  p.zeros.pick_row = slab.workspace.pick_row;
  const std::int64_t element = slab.activations.output_bytes();
  p.zeros.output = static_cast<std::uint8_t*>(slab.activations.output);
  p.zeros.pitch_bytes = slab.activations.output_pitch * element;
  p.zeros.row_bytes = static_cast<std::int32_t>(slab.geometry.hidden * element);
  return p;
}

Gemm1::Params gemm1_params(const stages::Slab& slab, const Config& config) {
  const contract::Geometry& g = slab.geometry;
  const contract::Activations& a = slab.activations;
  Gemm1::Params p{};
  p.product.wanted = (slab.wanted & kGemm1) != 0;
  p.product.exact = config.exact_gemm1;
  p.product.in_halves = config.gemm1_in_halves;
  p.product.weight_scale = slab.weights.w13_scale;
  p.product.rows = {a.hidden, static_cast<std::uint32_t>(a.hidden_pitch), a.hidden_scale, a.hidden_scale_pitch,
                    slab.workspace.row_to_token};
  p.product.terms = 1;
  p.product.weight_tiles = static_cast<std::int32_t>(g.intermediate_blocks());
  p.product.k_blocks = static_cast<std::int32_t>(g.hidden_blocks());
  p.intermediate = static_cast<std::int32_t>(g.intermediate);
  p.up_row = static_cast<std::int32_t>(slab.weights.up_row(g.intermediate));
  p.gate_row = static_cast<std::int32_t>(slab.weights.gate_row(g.intermediate));
  p.inter = slab.workspace.inter;
  p.inter_scale = slab.workspace.inter_scale;
  p.inter_rows = slab.sizes.row_capacity;
  p.terms = slab.sizes.terms;
  return p;
}

Gemm2::Params gemm2_params(const stages::Slab& slab) {
  const contract::Geometry& g = slab.geometry;
  Gemm2::Params p{};
  p.product.wanted = (slab.wanted & kGemm2) != 0;
  p.product.weight_scale = slab.weights.w2_scale;
  p.product.rows = {slab.workspace.inter, static_cast<std::uint32_t>(g.intermediate), slab.workspace.inter_scale,
                    slab.sizes.row_capacity * slab.sizes.terms, nullptr};
  p.product.terms = slab.sizes.terms;
  p.product.weight_tiles = static_cast<std::int32_t>((g.hidden_blocks() + kBoxes - 1) / kBoxes);
  p.product.k_blocks = static_cast<std::int32_t>(g.intermediate_blocks());
  p.hidden = static_cast<std::int32_t>(g.hidden);
  p.row_type = slab.sizes.row_type;
  p.out = slab.workspace.rows;
  p.exponent = slab.workspace.row_exponent;
  return p;
}

}  // namespace

cudaError_t launch_clear(const stages::Slab& slab, cudaStream_t stream) {
  constexpr unsigned kThreadsOfClear = 512;
  clear<<<1, kThreadsOfClear, 0, stream>>>(slab.counters, slab.counter_words);
  return cudaGetLastError();
}

cudaError_t launch_products(const stages::Slab& slab, std::int32_t chunk, const Maps& maps, const Scratch& scratch,
                            const Config& config, cudaStream_t stream) {
  std::uint32_t* const flags = scratch.flags + chunk * flag_words(slab.sms, slab.geometry.local_experts);
  Params p{chunk_params(slab, chunk, flags + slab.sms * 4, config), gemm1_params(slab, config), gemm2_params(slab)};
  p.gemm1.product.sums = scratch.sums;
  p.gemm1.product.flags = flags;
  p.gemm2.product.sums = scratch.sums + sum_bytes(slab.sms, config.width) / sizeof(float4) / 2;
  p.gemm2.product.flags = flags + slab.sms * 2;
  switch (config.width) {
    case Width::narrow:
      return launch_products<Narrow>(maps.w13, maps.w2, p, slab.sms, stream);
    case Width::middle:
      return launch_products<Middle>(maps.w13, maps.w2, p, slab.sms, stream);
    case Width::wide:
      return launch_products<Wide>(maps.w13, maps.w2, p, slab.sms, stream);
  }
  return cudaErrorInvalidValue;
}

}  // namespace blockmoe::kernels::hopper
