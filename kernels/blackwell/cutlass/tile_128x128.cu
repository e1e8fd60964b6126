// tile_128x128.cu: 128 rows x 128 weights, one SM.
#include "blackwell/cutlass/grouped.cuh"

namespace blockmoe::kernels::blackwell {

TileEntry tile_128x128() {
  return tile_entry<128, 128, false, false>();
}

}  // namespace blockmoe::kernels::blackwell
