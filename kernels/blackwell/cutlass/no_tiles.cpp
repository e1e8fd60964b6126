// no_tiles.cpp: tiles.h where the build leaves them out.
#include "blackwell/cutlass/tiles.h"

namespace blockmoe::kernels::blackwell {

const std::vector<TileEntry>& tiles() {
  static const std::vector<TileEntry> none;
  return none;
}

const char* why_no_tiles() {
  return "not in this build: BLOCKMOE_BLACKWELL=ON compiles it (`make build CUDA=1 BLACKWELL=1`, which installs "
         "package "
         "nvidia-cutlass)";
}

}  // namespace blockmoe::kernels::blackwell
