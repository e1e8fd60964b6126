// The kernel that makes a batched GEMM's maps: bit for bit what brute force makes, for counts from none to all on one expert.
#include "trtllm_maps.hpp"

#include <algorithm>
#include <string>
#include <vector>

#include "blackwell/trtllm/configs.h"
#include "blackwell/trtllm/maps.h"
#include "device_array.h"
#include "gpu_test.hpp"

namespace blockmoe::test {
namespace {

namespace trtllm = kernels::blackwell::trtllm;

using TrtllmMapsTest = GpuTest;

TrtllmMaps maps_of(const std::vector<std::int32_t>& counts, std::int32_t padding, std::int32_t tile, bool silenced) {
  const auto experts = static_cast<std::int32_t>(counts.size());
  const DeviceArray<std::int32_t> begin(padded_begin(counts, padding));
  const DeviceArray<std::int32_t> count(silenced ? std::vector<std::int32_t>(counts.size(), 0) : counts);
  const std::int64_t most_tiles = trtllm::most_tiles(24832 + std::int64_t{experts} * 4 * (tile + padding), tile);
  const DeviceArray<std::uint8_t> memory(trtllm::map_bytes(most_tiles));  // poisoned
  const trtllm::Maps maps = trtllm::maps_at(memory.get(), most_tiles);
  EXPECT_TRUE(trtllm::launch_maps(begin.get(), count.get(), experts, tile, most_tiles, maps, nullptr).ok());
  const std::vector<std::uint8_t> bytes = memory.host();
  const auto* const words = reinterpret_cast<const std::int32_t*>(bytes.data());
  const auto* const at = reinterpret_cast<const std::int32_t*>(memory.get());
  TrtllmMaps got;
  got.working_tiles = words[maps.working_tiles - at];
  got.padded_rows = words[maps.padded_rows - at];
  const std::int32_t tiles = std::clamp(got.working_tiles, 0, static_cast<std::int32_t>(most_tiles));
  const std::int32_t* const experts_at = words + (maps.tile_expert - at);
  const std::int32_t* const limits_at = words + (maps.tile_limit - at);
  got.tile_expert.assign(experts_at, experts_at + tiles);
  got.tile_limit.assign(limits_at, limits_at + tiles);
  for (std::int64_t c = tiles; c < most_tiles; ++c) {
    if (experts_at[c] != -1 || limits_at[c] != -1) ADD_FAILURE() << "tile " << c << " of " << tiles << " is written";
  }
  return got;
}

void check_all(const std::vector<std::int32_t>& tiles, const std::vector<std::int32_t>& expert_numbers) {
  for (const std::int32_t tile : tiles) {
    for (const std::int32_t experts : expert_numbers) {
      for (const CountPattern& pattern : count_patterns(experts, tile)) {
        for (std::int32_t padding = tile; padding <= 128; padding *= 2) {
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

TEST_F(TrtllmMapsTest, counts_from_none_to_all_on_one_expert_give_what_brute_force_gives) {
  check_all({8, 16, 32, 64, 128}, {1, 3, 32, 256});
}

using TrtllmMapsSanitizedTest = GpuTest;

TEST_F(TrtllmMapsSanitizedTest, counts_of_a_few_experts) {
  check_all({128}, {3});
}

// Tensor maps are the driver's business on the host, whatever the GPU.
TEST_F(TrtllmMapsTest, the_driver_makes_tensor_maps_for_every_configuration) {
  if (trtllm::config_count() == 0) GTEST_SKIP() << trtllm::why_no_configs();
  std::string why_not;
  for (std::int32_t index = 0; index < trtllm::config_count(); ++index) {
    SCOPED_TRACE(trtllm::config_at(index, &why_not)->function);
    trtllm::Arguments arguments;
    ASSERT_TRUE(trtllm::make_arguments(index, 4096, 7168, 32, &arguments, &why_not)) << why_not;
    const DeviceArray<std::uint8_t> memory(1 << 20);
    kernels::blackwell::ProductCall call;
    call.rows = call.weights = memory.get();
    call.output = memory.get();
    EXPECT_EQ(CUDA_SUCCESS, trtllm::fill_arguments(call, {}, &arguments));
  }
}

}  // namespace
}  // namespace blockmoe::test
