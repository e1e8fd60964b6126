// trtllm_maps.hpp: the maps of a batched GEMM (kernels/blackwell/trtllm/maps.h) by brute force, and the counts they are tried with.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace blockmoe::test {

struct TrtllmMaps {
  std::vector<std::int32_t> tile_expert, tile_limit;  // [working_tiles]
  std::int32_t working_tiles = 0;
  std::int32_t padded_rows = 0;

  bool operator==(const TrtllmMaps&) const = default;
};

// begin[L + 1]: each expert's first row at a multiple of `padding`.
std::vector<std::int32_t> padded_begin(const std::vector<std::int32_t>& counts, std::int32_t padding);

// Row by row: each padded row marks its tile with its expert, each real one moves the tile's limit behind itself.
TrtllmMaps expected_maps(const std::vector<std::int32_t>& counts, std::int32_t padding, std::int32_t tile,
                         bool silenced);

struct CountPattern {
  std::string name;
  std::vector<std::int32_t> counts;
};

// Of `experts`, from none of them having a row to one of them having all, with every border of a tile among them.
std::vector<CountPattern> count_patterns(std::int32_t experts, std::int32_t tile);

}  // namespace blockmoe::test
