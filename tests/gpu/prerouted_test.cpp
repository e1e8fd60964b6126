// Calls that their caller has routed, on every path of this GPU: what is taken of the picks, and whole calls against routed
// ones, bit for bit.
#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "given_picks.hpp"
#include "gpu_test.hpp"
#include "layer.hpp"
#include "stages/stages.h"

namespace blockmoe::test {
namespace {

namespace stages = kernels::stages;
using kernels::Path;
using kernels::plan::Sizes;

using PreroutedTest = GpuTest;

LayerOptions options_of(const contract::Geometry& geometry, std::int64_t tokens, std::int32_t local_expert_offset = 0,
                        std::int64_t extra_pitch = 0) {
  LayerOptions options;
  options.geometry = geometry;
  options.tokens = tokens;
  options.local_expert_offset = local_expert_offset;
  options.extra_pitch = extra_pitch;
  options.seed = static_cast<std::uint32_t>(tokens + geometry.top_k);
  return options;
}

GivenPicks picks_of(const Layer& layer) {
  const HostCall host(layer);
  return picks_of_routing(layer.geometry(), host.weights, host.activations, layer.options.extra_pitch);
}

std::vector<std::uint16_t> output_on(const Layer& layer, const GivenPicks& picks, Path path) {
  DeviceCall call(layer);
  call.take(picks);
  run_call(call, layer.geometry(), path);
  return call.output();
}

void expect_the_routed_calls_bits(const Layer& layer) {
  const GivenPicks picks = picks_of(layer);
  for (const Path path : paths_here(layer.geometry())) {
    SCOPED_TRACE(name_of(path));
    EXPECT_TRUE(output_of(layer, path) == output_on(layer, picks, path));
  }
}

// ---- the stage alone

TakenPicks take(const Layer& layer, const GivenPicks& given, const Sizes& sizes) {
  DeviceCall device(layer);
  device.take(given);
  const StageCall call(device, layer.geometry(), sizes);
  const stages::Workspace& w = call.slab().workspace;
  const kernels::Error error = stages::launch_take_picks(call.slab(), nullptr);
  EXPECT_TRUE(error.ok()) << error.kernel << ": " << kernels::error_text(error);
  const std::int64_t slots = layer.tokens() * sizes.picks;
  const std::int64_t blocks = (layer.tokens() + kernels::plan::kTokenBlock - 1) / kernels::plan::kTokenBlock;
  return {call.fetch(w.pick_expert, slots), call.fetch(w.pick_weight, slots),
          call.fetch(w.block_counts, blocks * stages::counts_pitch(layer.geometry().local_experts)),
          call.fetch(w.block_rows, blocks)};
}

TEST_F(PreroutedTest, any_ids_give_what_brute_force_takes) {
  std::uint32_t seed = 0;
  for (const std::int32_t top_k : {1, 2, 5, 8, 16, 17, 32}) {
    for (const std::int32_t local : {1, 7, 32, 256}) {
      for (const std::int64_t tokens : {1, 33, 901}) {
        const std::int32_t offset = (256 - local) / 2;
        SCOPED_TRACE("K " + std::to_string(top_k) + " L " + std::to_string(local) + " T " + std::to_string(tokens));
        const Layer layer = draw_layer(options_of({128, 128, 256, local, top_k, 1, 1}, tokens, offset));
        const GivenPicks given = hostile_picks(layer.geometry(), offset, tokens, ++seed, top_k % 3);
        const Sizes sizes = kernels::plan::sizes_of(layer.geometry(), tokens);
        expect_taken(given, layer.geometry(), offset, take(layer, given, sizes));
      }
    }
  }
}

TEST_F(PreroutedTest, pruning_leaves_what_sorting_does) {
  std::uint32_t seed = 100;
  for (const std::int32_t top_k : {1, 2, 5, 8, 17, 32}) {
    for (const std::int32_t local : {1, 32, 256}) {
      for (const contract::Pruning pruning : {contract::Pruning{1, 0}, {3, 0}, {0, 0.1F}, {0, 0.5F}, {2, 0.05F}}) {
        SCOPED_TRACE("K " + std::to_string(top_k) + " L " + std::to_string(local) + " seed " + std::to_string(++seed));
        LayerOptions options = options_of({128, 128, 256, local, top_k, 1, 1}, 67);
        options.pruning = pruning;
        const Layer layer = draw_layer(options);
        GivenPicks given = hostile_picks(layer.geometry(), 0, layer.tokens(), seed, top_k % 3);
        for (std::int64_t t = 0; t < given.tokens; t += 2) {  // shares that are close, and ties
          for (std::int32_t j = 0; j < top_k; ++j) given.weight(t, j) = static_cast<float>((t + j * 7) % 5) - 1;
        }
        const Sizes sizes = kernels::plan::sizes_of(layer.geometry(), layer.tokens());
        expect_taken(given, layer.geometry(), 0, take(layer, given, sizes), pruning);
      }
    }
  }
}

// ---- whole calls

TEST_F(PreroutedTest, picks_of_the_routed_call_give_its_bits) {
  for (const std::int32_t top_k : {1, 8, 32}) {
    for (const std::int64_t tokens : {1, 80, 901}) {
      for (const std::int64_t extra_pitch : {0, 1}) {
        SCOPED_TRACE("K " + std::to_string(top_k) + " T " + std::to_string(tokens) + " pitch + " +
                     std::to_string(extra_pitch));
        expect_the_routed_calls_bits(draw_layer(options_of({256, 128, 64, 32, top_k, 1, 1}, tokens, 16, extra_pitch)));
      }
    }
  }
}

// Few tokens of such a layer are routed and packed by one kernel, but taken and packed by two.
TEST_F(PreroutedTest, picks_of_a_layer_with_deepseek_v3s_routing_give_its_bits) {
  contract::Geometry geometry;
  geometry.hidden = 512;
  geometry.intermediate = 256;
  for (const std::int64_t tokens : {1, 80, 901}) {
    SCOPED_TRACE("T " + std::to_string(tokens));
    expect_the_routed_calls_bits(draw_layer(options_of(geometry, tokens, 64)));
  }
}

TEST_F(PreroutedTest, picks_of_a_pruned_routed_call_give_its_bits) {
  for (const std::int64_t tokens : {1, 80, 901}) {
    for (const contract::Pruning pruning : {contract::Pruning{2, 0}, {0, 0.12F}, {1, 0.2F}}) {
      SCOPED_TRACE("T " + std::to_string(tokens) + " at most " + std::to_string(pruning.max_local_picks) +
                   " from a share of " + std::to_string(pruning.min_weight_share));
      contract::Geometry geometry;
      geometry.hidden = 512;
      geometry.intermediate = 256;
      geometry.local_experts = 128;
      LayerOptions options = options_of(geometry, tokens, 64);
      options.pruning = pruning;
      expect_the_routed_calls_bits(draw_layer(options));
    }
  }
}

TEST_F(PreroutedTest, a_call_in_several_slabs_gives_the_routed_calls_bits) {
  const Layer layer = draw_layer(options_of({128, 128, 16, 8, 4, 1, 1}, 20000, 4, 1));
  ASSERT_GT(kernels::plan::sizes_of(layer.geometry(), layer.tokens()).slabs, 1);
  expect_the_routed_calls_bits(layer);
}

// All picks are local: a token block has 128 rows, and a chunk is one block.
TEST_F(PreroutedTest, several_slabs_of_several_chunks_give_the_routed_calls_bits) {
  const Layer layer = draw_layer(options_of({256, 128, 8, 8, 4, 1, 1}, 100, 0, 1));
  const Sizes sizes = sizes_with_slabs(layer.geometry(), layer.tokens(), 64, 192);
  ASSERT_EQ(2, sizes.slabs);
  ASSERT_EQ(4, sizes.max_chunks);
  for (const Path path : paths_here(layer.geometry())) {
    SCOPED_TRACE(name_of(path));
    const DeviceCall routed(layer);
    run_call_in_fresh_memory(routed, layer.geometry(), path, sizes);
    DeviceCall given(layer);
    given.take(picks_of(layer));
    run_call_in_fresh_memory(given, layer.geometry(), path, sizes);
    EXPECT_TRUE(routed.output() == given.output());
  }
}

struct Skipped {
  const char* name;
  std::int32_t offset;  // of the 8 local experts among 16
  std::int32_t id;
};

constexpr Skipped kSkipped[] = {
    {"of a rank before", 8, 7},
    {"of a rank after", 0, 8},
    {"negative and in reach of a negative offset", -4, -2},
    {"least", 0, std::numeric_limits<std::int32_t>::min()},
    {"largest", 0, std::numeric_limits<std::int32_t>::max()},
    {"one past the last and in reach of the offset", 12, 16},
};

TEST_F(PreroutedTest, an_expert_that_is_not_here_counts_as_none) {
  for (const Skipped& skipped : kSkipped) {
    SCOPED_TRACE(skipped.name);
    const Layer layer = draw_layer(options_of({256, 128, 16, 8, 4, 1, 1}, 80, skipped.offset));
    GivenPicks given = picks_of(layer);
    GivenPicks without = given;
    for (std::size_t i = 1; i < given.experts.size(); i += 3) {
      given.experts[i] = skipped.id;
      without.experts[i] = -1;
    }
    for (const Path path : paths_here(layer.geometry())) {
      SCOPED_TRACE(name_of(path));
      EXPECT_TRUE(output_on(layer, without, path) == output_on(layer, given, path));
    }
  }
}

TEST_F(PreroutedTest, hostile_picks_count_as_those_left_when_they_are_gone) {
  for (const std::int32_t top_k : {1, 8, 32}) {
    for (const std::int64_t tokens : {1, 80, 901}) {
      SCOPED_TRACE("K " + std::to_string(top_k) + " T " + std::to_string(tokens));
      const Layer layer = draw_layer(options_of({256, 128, 64, 32, top_k, 1, 1}, tokens, 16));
      const GivenPicks hostile = hostile_picks(layer.geometry(), 16, tokens, 5, 3);
      const GivenPicks left = without_skipped(hostile, layer.geometry(), 16);
      for (const Path path : paths_here(layer.geometry())) {
        SCOPED_TRACE(name_of(path));
        EXPECT_TRUE(output_on(layer, left, path) == output_on(layer, hostile, path));
      }
    }
  }
}

TEST_F(PreroutedTest, a_repeated_expert_counts_once) {
  // Fewer local experts than picks: repeats would not fit the workspace.
  const Layer layer = draw_layer(options_of({256, 128, 16, 2, 4, 1, 1}, 80));
  GivenPicks given = picks_of(layer);
  GivenPicks once = given;
  for (std::int64_t t = 0; t < layer.tokens(); ++t) {
    const std::int32_t repeated[] = {0, 0, 1, 0};
    const std::int32_t left[] = {0, -1, 1, -1};
    for (std::int32_t j = 0; j < 4; ++j) {
      given.expert(t, j) = repeated[j];
      once.expert(t, j) = left[j];
    }
  }
  for (const Path path : paths_here(layer.geometry())) {
    SCOPED_TRACE(name_of(path));
    EXPECT_TRUE(output_on(layer, once, path) == output_on(layer, given, path));
  }
}

TEST_F(PreroutedTest, no_pick_gives_zeros) {
  const Layer layer = draw_layer(options_of({256, 128, 16, 8, 4, 1, 1}, 80));
  GivenPicks given = picks_of(layer);
  std::fill(given.experts.begin(), given.experts.end(), -1);
  for (const Path path : paths_here(layer.geometry())) {
    SCOPED_TRACE(name_of(path));
    const auto output = output_on(layer, given, path);
    EXPECT_TRUE(std::all_of(output.begin(), output.end(), [](std::uint16_t x) { return x == 0; }));
  }
}

}  // namespace
}  // namespace blockmoe::test
