// stages.h: the stages that every path shares. launch_*() launches and returns what the runtime refused; prepare_*()
// loads the stage's kernels on the current device: once does for every geometry.
#pragma once

#include <cuda_runtime_api.h>

#include "operator.h"
#include "stages/slab.h"

namespace blockmoe::kernels::stages {

// logits, bias -> pick_expert, pick_weight, block_counts, block_rows
Error launch_route(const Slab& slab, cudaStream_t stream);
Error prepare_route();

// slab.given_picks -> the same: in place of route
Error launch_take_picks(const Slab& slab, cudaStream_t stream);
Error prepare_take_picks();

// block_counts, block_rows, pick_expert -> chunks, expert_begin, row_to_token, pick_row
Error launch_pack(const Slab& slab, cudaStream_t stream);
Error prepare_pack();

// Route (take_picks, where the slab has given_picks) and pack, those of them that slab.wanted has: what a path calls. Where
// both are one kernel it is launched for route, and leaves neither block_counts nor block_rows.
Error launch_routing(const Slab& slab, cudaStream_t stream);
Error prepare_routing();

// rows, pick_row, pick_weight -> output: every element of the chunk's tokens
Error launch_combine(const Slab& slab, std::int32_t chunk, cudaStream_t stream);
Error prepare_combine();

}  // namespace blockmoe::kernels::stages
