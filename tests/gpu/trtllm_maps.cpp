#include "trtllm_maps.hpp"

#include <algorithm>
#include <random>

namespace blockmoe::test {

std::vector<std::int32_t> padded_begin(const std::vector<std::int32_t>& counts, std::int32_t padding) {
  std::vector<std::int32_t> begin = {0};
  for (const std::int32_t count : counts) {
    std::int32_t end = begin.back() + count;
    while (end % padding != 0) ++end;
    begin.push_back(end);
  }
  return begin;
}

TrtllmMaps expected_maps(const std::vector<std::int32_t>& counts, std::int32_t padding, std::int32_t tile,
                         bool silenced) {
  const std::vector<std::int32_t> begin = padded_begin(counts, padding);
  TrtllmMaps maps;
  maps.padded_rows = begin.back();
  if (silenced) return maps;
  for (std::size_t e = 0; e < counts.size(); ++e) {
    for (std::int32_t row = begin[e]; row < begin[e + 1]; ++row) {
      if (row % tile == 0) {
        maps.tile_expert.push_back(static_cast<std::int32_t>(e));
        maps.tile_limit.push_back(row);
      }
      if (row < begin[e] + counts[e]) maps.tile_limit.back() = row + 1;
    }
  }
  for (std::size_t c = 0; c < maps.tile_limit.size(); ++c) {
    const auto first = static_cast<std::int32_t>(c) * tile;
    if (maps.tile_limit[c] == first) maps.tile_limit[c] = first + tile;  // padding alone
  }
  maps.working_tiles = static_cast<std::int32_t>(maps.tile_expert.size());
  return maps;
}

std::vector<CountPattern> count_patterns(std::int32_t experts, std::int32_t tile) {
  const auto size = static_cast<std::size_t>(experts);
  std::vector<CountPattern> patterns = {{"no row", std::vector<std::int32_t>(size, 0)}};
  for (const std::int32_t count : {1, tile - 1, tile, tile + 1, 3 * tile + 5}) {
    patterns.push_back({"each has " + std::to_string(count), std::vector<std::int32_t>(size, count)});
    for (const std::int32_t chosen : {0, experts / 2, experts - 1}) {
      std::vector<std::int32_t> one(size, 0);
      one[static_cast<std::size_t>(chosen)] = count;
      patterns.push_back({"expert " + std::to_string(chosen) + " alone has " + std::to_string(count), one});
    }
  }
  for (const std::int32_t chosen : {0, experts / 2, experts - 1}) {
    std::vector<std::int32_t> all(size, 0);
    all[static_cast<std::size_t>(chosen)] = 24832;
    patterns.push_back({"all of a chunk's rows are of expert " + std::to_string(chosen), all});
  }
  std::mt19937 random(static_cast<std::uint32_t>(experts * 1000 + tile));
  for (const std::uint32_t emptiness : {0U, 50U, 90U}) {
    for (int i = 0; i < 4; ++i) {
      std::vector<std::int32_t> counts(size);
      std::generate(counts.begin(), counts.end(), [&] {
        return random() % 100 < emptiness ? 0
                                          : static_cast<std::int32_t>(random() % static_cast<std::uint32_t>(4 * tile));
      });
      patterns.push_back({std::to_string(emptiness) + "% without rows, draw " + std::to_string(i), counts});
    }
  }
  return patterns;
}

}  // namespace blockmoe::test
