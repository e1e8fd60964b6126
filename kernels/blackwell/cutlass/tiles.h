// tiles.h: the tiles that CUTLASS's product is compiled for, a translation unit each. Host; no CUTLASS.
//
// One of two files is behind it: tiles.cpp, or no_tiles.cpp where the build leaves them out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <cuda_runtime_api.h>

#include "blackwell/groups.h"

namespace blockmoe::kernels::blackwell {

struct TileEntry {
  cudaError_t (*prepare)();                    // loads its kernels on the current device
  std::size_t (*map_bytes)(std::int32_t sms);  // of device memory that a launch keeps its tensor maps in
  cudaError_t (*launch_f32)(const Groups& groups, std::int32_t sms, void* maps, cudaStream_t stream);   // output in f32
  cudaError_t (*launch_bf16)(const Groups& groups, std::int32_t sms, void* maps, cudaStream_t stream);  // in bf16
};

// In the order of plan::BlackwellTile; empty, with why_no_tiles(), where this build has none.
const std::vector<TileEntry>& tiles();
const char* why_no_tiles();

// <rows>x<weights>; swapped: <weights>x<rows>.
TileEntry tile_64x128();
TileEntry tile_64x256();
TileEntry tile_128x128();
TileEntry tile_256x128();
TileEntry tile_swapped_128x32();
TileEntry tile_swapped_128x16();

}  // namespace blockmoe::kernels::blackwell
