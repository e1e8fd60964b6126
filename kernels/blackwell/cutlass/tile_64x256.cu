// tile_64x256.cu: 64 rows x 256 weights, one SM.
#include "blackwell/cutlass/grouped.cuh"

namespace blockmoe::kernels::blackwell {

TileEntry tile_64x256() {
  return tile_entry<64, 256, false, false>();
}

}  // namespace blockmoe::kernels::blackwell
