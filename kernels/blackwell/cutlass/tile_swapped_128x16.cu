// tile_swapped_128x16.cu: 128 weights x 16 rows, one SM.
#include "blackwell/cutlass/grouped.cuh"

namespace blockmoe::kernels::blackwell {

TileEntry tile_swapped_128x16() {
  return tile_entry<128, 16, false, true>();
}

}  // namespace blockmoe::kernels::blackwell
