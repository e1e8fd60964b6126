// route_grouped.h: routing of layers with DeepSeek-V3's grouping (256 experts in 8 groups of which 4 are kept, 8 picks a
// token), in half the instructions that route.cu needs; and routing and packing of few tokens by one CTA.
#pragma once

#include <cuda_runtime_api.h>

#include "contract/geometry.h"
#include "operator.h"
#include "stages/slab.h"

namespace blockmoe::kernels::stages {

// Whether the layer has that grouping; whether a slab of it also has logits that load as vectors.
bool is_grouped(const contract::Geometry& geometry);
bool is_grouped(const Slab& slab);

// For a slab that is_grouped(): what launch_route() leaves.
Error launch_route_grouped(const Slab& slab, cudaStream_t stream);

// Whether such a slab is so short that one CTA routes and packs it in one pass; then what launch_route() and launch_pack()
// leave, but for block_counts and block_rows.
bool fits_one_cta(const Slab& slab);
Error launch_route_and_pack(const Slab& slab, cudaStream_t stream);

Error prepare_route_grouped();

}  // namespace blockmoe::kernels::stages
