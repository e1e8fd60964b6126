// tile_256x128.cu: 256 rows x 128 weights, two SMs.
#include "blackwell/cutlass/grouped.cuh"

namespace blockmoe::kernels::blackwell {

TileEntry tile_256x128() {
  return tile_entry<256, 128, true, false>();
}

}  // namespace blockmoe::kernels::blackwell
