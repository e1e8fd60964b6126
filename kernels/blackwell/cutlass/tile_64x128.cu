// tile_64x128.cu: 64 rows x 128 weights, one SM.
#include "blackwell/cutlass/grouped.cuh"

namespace blockmoe::kernels::blackwell {

TileEntry tile_64x128() {
  return tile_entry<64, 128, false, false>();
}

}  // namespace blockmoe::kernels::blackwell
