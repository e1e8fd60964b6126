// maps.h: from the padded rows of each expert to what a batched-GEMM kernel reads of them. Host.
//
// A tile is `tile` padded rows of one expert, and the kernel's CTA index along the rows: tile c holds rows [c tile, (c + 1) tile).
// Each expert's first row is at a multiple of the tile.
#pragma once

#include <cstddef>
#include <cstdint>

#include <cuda_runtime_api.h>

#include "operator.h"

namespace blockmoe::kernels::blackwell::trtllm {

// In device memory. Of the arrays, what lies beyond working_tiles is not written.
struct Maps {
  std::int32_t* tile_expert = nullptr;    // [most_tiles] the expert: cta_to_batch
  std::int32_t* tile_limit = nullptr;     // [most_tiles] the padded row after the tile's last real one: cta_to_mn_limit
  std::int32_t* working_tiles = nullptr;  // [1] num_non_exiting_ctas; 0 where the product is silenced
  std::int32_t* padded_rows = nullptr;    // [1] begin[L]: total_padded_tokens, also the pitch of scales
};

// Tiles that a chunk whose rows take up to `row_capacity` with their padding can have.
inline std::int64_t most_tiles(std::int64_t row_capacity, std::int32_t tile) {
  return (row_capacity + tile - 1) / tile;
}

std::size_t map_bytes(std::int64_t most_tiles);
Maps maps_at(void* memory, std::int64_t most_tiles);

// row_begin [L + 1] and row_count [L] as in blackwell/products.h: the counts are those of row_begin, or all 0. A tile of padding
// alone, which there is where rows are padded to more than a tile, counts as full: what it computes reaches no real row.
Error launch_maps(const std::int32_t* row_begin, const std::int32_t* row_count, std::int32_t experts, std::int32_t tile,
                  std::int64_t most_tiles, const Maps& maps, cudaStream_t stream);
Error prepare_maps();

}  // namespace blockmoe::kernels::blackwell::trtllm
