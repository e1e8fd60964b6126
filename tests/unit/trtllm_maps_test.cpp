// The kernel that makes a batched GEMM's maps (kernels/blackwell/trtllm/maps.cu), compiled for the host and run thread by thread; and
// the brute force that it is held against, by itself.
#include "trtllm_maps.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "blackwell/trtllm/maps.cu"  // device_on_host/ stands in for CUDA

namespace blockmoe::test {
namespace {

namespace trtllm = kernels::blackwell::trtllm;

// In buffers without a byte to spare, for the sanitizers.
TrtllmMaps maps_of(const std::vector<std::int32_t>& counts, std::int32_t padding, std::int32_t tile, bool silenced) {
  const auto experts = static_cast<std::int32_t>(counts.size());
  const std::vector<std::int32_t> begin = padded_begin(counts, padding);
  const std::vector<std::int32_t> count = silenced ? std::vector<std::int32_t>(counts.size(), 0) : counts;
  const std::int64_t most_tiles = std::max<std::int64_t>(1, trtllm::most_tiles(begin.back(), tile));
  std::vector<std::int32_t> memory(trtllm::map_bytes(most_tiles) / sizeof(std::int32_t), -1);
  const trtllm::Maps maps = trtllm::maps_at(memory.data(), most_tiles);
  EXPECT_TRUE(trtllm::launch_maps(begin.data(), count.data(), experts, tile, most_tiles, maps, nullptr).ok());
  TrtllmMaps got;
  got.working_tiles = *maps.working_tiles;
  got.padded_rows = *maps.padded_rows;
  got.tile_expert.assign(maps.tile_expert, maps.tile_expert + got.working_tiles);
  got.tile_limit.assign(maps.tile_limit, maps.tile_limit + got.working_tiles);
  return got;
}

// The example that the kernels' headers give of their maps.
TEST(TrtllmMaps, brute_force_of_128_255_and_32_rows_is_the_published_example) {
  const TrtllmMaps maps = expected_maps({128, 255, 32}, 128, 128, false);
  EXPECT_EQ((std::vector<std::int32_t>{0, 1, 1, 2}), maps.tile_expert);
  EXPECT_EQ((std::vector<std::int32_t>{128, 256, 383, 416}), maps.tile_limit);
  EXPECT_EQ(4, maps.working_tiles);
  EXPECT_EQ(512, maps.padded_rows);
}

TEST(TrtllmMaps, brute_force_of_no_rows_is_no_tile) {
  EXPECT_EQ(TrtllmMaps{}, expected_maps({0, 0, 0}, 64, 64, false));
}

TEST(TrtllmMaps, brute_force_of_a_silenced_product_is_no_tile_but_the_pitch_of_scales) {
  const TrtllmMaps maps = expected_maps({1, 0, 70}, 64, 64, true);
  EXPECT_EQ(0, maps.working_tiles);
  EXPECT_EQ(192, maps.padded_rows);
}

TEST(TrtllmMaps, brute_force_takes_a_tile_of_padding_alone_for_full) {
  const TrtllmMaps maps = expected_maps({3, 9}, 16, 8, false);
  EXPECT_EQ((std::vector<std::int32_t>{0, 0, 1, 1}), maps.tile_expert);
  EXPECT_EQ((std::vector<std::int32_t>{3, 16, 24, 25}), maps.tile_limit);
}

TEST(TrtllmMaps, counts_from_none_to_all_on_one_expert_give_what_brute_force_gives) {
  for (const std::int32_t tile : {8, 64, 128}) {
    for (const std::int32_t experts : {1, 3, 32}) {
      for (const CountPattern& pattern : count_patterns(experts, tile)) {
        for (const std::int32_t padding : {tile, 128}) {
          for (const bool silenced : {false, true}) {
            SCOPED_TRACE(pattern.name + ", L " + std::to_string(experts) + " tile " + std::to_string(tile) +
                         " padding " + std::to_string(padding) + (silenced ? ", silenced" : ""));
            ASSERT_EQ(expected_maps(pattern.counts, padding, tile, silenced),
                      maps_of(pattern.counts, padding, tile, silenced));
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace blockmoe::test
