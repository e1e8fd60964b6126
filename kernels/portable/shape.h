// shape.h: how the tile kernels are launched: depth of the ring, shared memory, grid.
#pragma once

#include <cstddef>
#include <cstdint>

#include "contract/geometry.h"
#include "launch.h"
#include "operator.h"
#include "portable/tile_shape.h"
#include "stages/slab.h"

namespace blockmoe::kernels::portable {

inline std::size_t shared_bytes_of(const contract::Geometry& geometry, int stages) {
  return static_cast<std::size_t>(stages) * sizeof(Stage) + schedule_bytes(geometry.local_experts);
}

// 5 stages keep 3 to 4 x 40 KB in flight an SM (34 with few rows), and an H200 needs 96 to 128 KB to stream weights at full
// rate; an A100 asks for a third of that, and 3 do. sm_86 and sm_89 have room for 2.
inline int ring_stages_of(const Device& device, const contract::Geometry& geometry) {
  constexpr std::size_t kStatic = 4096;  // the kernels' own arrays
  if (device.compute_capability >= 90 && device.compute_capability < 100) return 5;
  const auto available = static_cast<std::size_t>(device.shared_memory_per_block);
  return shared_bytes_of(geometry, 3) + kStatic <= available ? 3 : 2;
}

// Persistent: a CTA an SM, or one a tile where even the worst routing has fewer.
inline LaunchShape shape_of_tiles(const stages::Slab& slab, std::int64_t columns, int stages) {
  const std::int64_t most_tiles = slab.activations.tokens * slab.sizes.picks * columns;
  LaunchShape shape;
  shape.grid = static_cast<unsigned>(most_tiles < slab.sms ? most_tiles : slab.sms);
  shape.block = kThreads;
  shape.shared_bytes = shared_bytes_of(slab.geometry, stages);
  return shape;
}

}  // namespace blockmoe::kernels::portable
