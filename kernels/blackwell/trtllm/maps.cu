// maps.cu: see maps.h. A thread has one tile: it finds the tile's expert in row_begin and needs nothing of other threads.
#include "blackwell/trtllm/maps.h"

#include "checked.h"
#include "launch.h"
#include "trace.h"

namespace blockmoe::kernels::blackwell::trtllm {
namespace {

constexpr int kThreads = 128;

struct MapParams {
  const std::int32_t* row_begin;  // [L + 1]
  const std::int32_t* row_count;  // [L]
  int experts;                    // L
  int tile;
  int most_tiles;
  Maps maps;
};

// The expert whose padded rows hold `row`, which is less than row_begin[L]. Experts without rows hold none.
__device__ int expert_of(const MapParams& p, int row) {
  int low = 0;
  int high = p.experts;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (p.row_begin[middle] <= row) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

__global__ void __launch_bounds__(kThreads) maps(const __grid_constant__ MapParams p) {
  const int c = static_cast<int>(blockIdx.x * kThreads + threadIdx.x);
  const int padded_rows = p.row_begin[p.experts];
  // Any row that is there tells whether the product works, since the counts are all 0 where it does not.
  const bool works = padded_rows > 0 && p.row_count[expert_of(p, padded_rows - 1)] > 0;
  const int tiles = works ? padded_rows / p.tile : 0;
  BLOCKMOE_CHECK(padded_rows % p.tile == 0 && tiles <= p.most_tiles);
  if (c == 0) {
    *p.maps.working_tiles = tiles;
    *p.maps.padded_rows = padded_rows;
  }
  if (c >= tiles) return;
  const int begin = c * p.tile;
  const int expert = expert_of(p, begin);
  const int end = p.row_begin[expert] + p.row_count[expert];
  p.maps.tile_expert[c] = expert;
  p.maps.tile_limit[c] = end > begin ? min(end, begin + p.tile) : begin + p.tile;
}

}  // namespace

std::size_t map_bytes(std::int64_t most_tiles) {
  return static_cast<std::size_t>(2 * most_tiles + 2) * sizeof(std::int32_t);
}

Maps maps_at(void* memory, std::int64_t most_tiles) {
  auto* const words = static_cast<std::int32_t*>(memory);
  return {words + 2, words + 2 + most_tiles, words, words + 1};
}

Error launch_maps(const std::int32_t* row_begin, const std::int32_t* row_count, std::int32_t experts, std::int32_t tile,
                  std::int64_t most_tiles, const Maps& maps_out, cudaStream_t stream) {
  const TraceRange range("maps");
  const MapParams p = {row_begin, row_count, experts, tile, static_cast<int>(most_tiles), maps_out};
  LaunchShape shape;
  shape.grid = static_cast<unsigned>((most_tiles + kThreads - 1) / kThreads);
  shape.block = kThreads;
  return launch_kernel("maps", maps, shape, stream, p);
}

Error prepare_maps() {
  return prepare_kernel("maps", maps);
}

}  // namespace blockmoe::kernels::blackwell::trtllm
