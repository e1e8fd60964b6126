// tile_swapped_128x32.cu: 128 weights x 32 rows, one SM.
#include "blackwell/cutlass/grouped.cuh"

namespace blockmoe::kernels::blackwell {

TileEntry tile_swapped_128x32() {
  return tile_entry<128, 32, false, true>();
}

}  // namespace blockmoe::kernels::blackwell
