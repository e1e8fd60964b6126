#include "hopper/products.h"

#include "hopper/gemm1.cuh"
#include "hopper/gemm2.cuh"
#include "hopper/launch_product.cuh"
#include "hopper/tensor_map.h"

namespace blockmoe::kernels::hopper {

extern template cudaError_t prepare_product<Gemm1, Narrow>(std::int32_t);
extern template cudaError_t launch_product<Gemm1, Narrow>(const CUtensorMap&, const Gemm1::Params&, std::int32_t,
                                                          cudaStream_t);
extern template cudaError_t prepare_product<Gemm1, Middle>(std::int32_t);
extern template cudaError_t launch_product<Gemm1, Middle>(const CUtensorMap&, const Gemm1::Params&, std::int32_t,
                                                          cudaStream_t);
extern template cudaError_t prepare_product<Gemm1, Wide>(std::int32_t);
extern template cudaError_t launch_product<Gemm1, Wide>(const CUtensorMap&, const Gemm1::Params&, std::int32_t,
                                                        cudaStream_t);
extern template cudaError_t prepare_product<Gemm2, Narrow>(std::int32_t);
extern template cudaError_t launch_product<Gemm2, Narrow>(const CUtensorMap&, const Gemm2::Params&, std::int32_t,
                                                          cudaStream_t);
extern template cudaError_t prepare_product<Gemm2, Middle>(std::int32_t);
extern template cudaError_t launch_product<Gemm2, Middle>(const CUtensorMap&, const Gemm2::Params&, std::int32_t,
                                                          cudaStream_t);
extern template cudaError_t prepare_product<Gemm2, Wide>(std::int32_t);
extern template cudaError_t launch_product<Gemm2, Wide>(const CUtensorMap&, const Gemm2::Params&, std::int32_t,
                                                        cudaStream_t);

namespace {

template <class Product>
cudaError_t launch_width(Width width, const CUtensorMap& map, const typename Product::Params& params, std::int32_t ctas,
                         cudaStream_t stream) {
  switch (width) {
    case Width::narrow:
      return launch_product<Product, Narrow>(map, params, ctas, stream);
    case Width::middle:
      return launch_product<Product, Middle>(map, params, ctas, stream);
    case Width::wide:
      return launch_product<Product, Wide>(map, params, ctas, stream);
  }
  return cudaErrorInvalidValue;
}

template <class Product>
cudaError_t prepare_width(Width width, std::int32_t experts) {
  switch (width) {
    case Width::narrow:
      return prepare_product<Product, Narrow>(experts);
    case Width::middle:
      return prepare_product<Product, Middle>(experts);
    case Width::wide:
      return prepare_product<Product, Wide>(experts);
  }
  return cudaErrorInvalidValue;
}

// What both products take alike; `product` is 0 or 1.
ProductParams common(const stages::Slab& slab, std::int32_t chunk, std::int32_t product, const Scratch& scratch,
                     const Config& config) {
  ProductParams p{};
  p.chunk = slab.workspace.chunks + chunk;
  p.first_chunk = chunk == 0;
  p.expert_begin = slab.workspace.expert_begin + static_cast<std::int64_t>(chunk) * (slab.geometry.local_experts + 1);
  p.experts = slab.geometry.local_experts;
  p.most_pieces = config.most_pieces;
  p.cuts_leftover = config.cuts_leftover;
  p.sums = scratch.sums;
  p.flags = scratch.flags + (chunk * 2 + product) * (slab.sms + 1) * 2;
  p.taken = p.flags + slab.sms * 2;
  return p;
}

}  // namespace

cudaError_t prepare(const contract::Geometry& geometry, Width width) {
  const cudaError_t error = prepare_width<Gemm1>(width, geometry.local_experts);
  return error != cudaSuccess ? error : prepare_width<Gemm2>(width, geometry.local_experts);
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

cudaError_t launch_gemm1(const stages::Slab& slab, std::int32_t chunk, const Maps& maps, const Scratch& scratch,
                         const Config& config, cudaStream_t stream) {
  const contract::Geometry& g = slab.geometry;
  const contract::Activations& a = slab.activations;
  Gemm1::Params p{};
  p.product = common(slab, chunk, 0, scratch, config);
  p.product.weight_scale = slab.weights.w13_scale;
  p.product.rows = {a.hidden, static_cast<std::uint32_t>(a.hidden_pitch), a.hidden_scale, a.hidden_scale_pitch,
                    slab.workspace.row_to_token};
  p.product.weight_tiles = static_cast<std::int32_t>(g.intermediate_blocks());
  p.product.k_blocks = static_cast<std::int32_t>(g.hidden_blocks());
  p.intermediate = static_cast<std::int32_t>(g.intermediate);
  p.up_row = static_cast<std::int32_t>(slab.weights.up_row(g.intermediate));
  p.gate_row = static_cast<std::int32_t>(slab.weights.gate_row(g.intermediate));
  p.inter = slab.workspace.inter;
  p.inter_scale = slab.workspace.inter_scale;
  p.inter_scale_pitch = slab.sizes.row_capacity;
  return launch_width<Gemm1>(config.width, maps.w13, p, slab.sms, stream);
}

cudaError_t launch_gemm2(const stages::Slab& slab, std::int32_t chunk, const Maps& maps, const Scratch& scratch,
                         const Config& config, cudaStream_t stream) {
  const contract::Geometry& g = slab.geometry;
  Gemm2::Params p{};
  p.product = common(slab, chunk, 1, scratch, config);
  p.product.weight_scale = slab.weights.w2_scale;
  p.product.rows = {slab.workspace.inter, static_cast<std::uint32_t>(g.intermediate), slab.workspace.inter_scale,
                    slab.sizes.row_capacity, nullptr};
  p.product.weight_tiles = static_cast<std::int32_t>((g.hidden_blocks() + kBoxes - 1) / kBoxes);
  p.product.k_blocks = static_cast<std::int32_t>(g.intermediate_blocks());
  p.hidden = static_cast<std::int32_t>(g.hidden);
  p.row_type = slab.sizes.row_type;
  p.out = slab.workspace.rows;
  return launch_width<Gemm2>(config.width, maps.w2, p, slab.sms, stream);
}

}  // namespace blockmoe::kernels::hopper
