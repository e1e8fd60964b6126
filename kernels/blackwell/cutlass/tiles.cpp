// tiles.cpp: tiles.h where the build has them.
#include "blackwell/cutlass/tiles.h"

namespace blockmoe::kernels::blackwell {

const std::vector<TileEntry>& tiles() {
  static const std::vector<TileEntry> entries = {tile_64x128(),  tile_64x256(),         tile_128x128(),
                                                 tile_256x128(), tile_swapped_128x32(), tile_swapped_128x16()};
  return entries;
}

const char* why_no_tiles() {
  return "";
}

}  // namespace blockmoe::kernels::blackwell
