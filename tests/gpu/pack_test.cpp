// Pack alone: chunks, the order of rows and the inverse map, from what route left.
#include <numeric>
#include <string>
#include <vector>

#include "gpu_test.hpp"
#include "layer.hpp"
#include "stages/stages.h"

namespace blockmoe::test {
namespace {

namespace stages = kernels::stages;
namespace plan = kernels::plan;

using PackTest = GpuTest;

struct Packed {
  std::vector<std::int32_t> pick_expert, pick_row, row_to_token, expert_begin;
  std::vector<stages::Chunk> chunks;
  plan::Sizes sizes;
};

// By two launches, or by what a path launches: for few tokens of some layers one kernel.
enum class Launch { separate, routing };

Packed pack(const Layer& layer, const plan::Sizes& sizes, Launch launch = Launch::separate) {
  const DeviceCall device(layer);
  const StageCall call(device, layer.geometry(), sizes);
  const stages::Slab& slab = call.slab();
  kernels::Error error;
  if (launch == Launch::separate) {
    EXPECT_TRUE(stages::launch_route(slab, nullptr).ok());
    error = stages::launch_pack(slab, nullptr);
  } else {
    error = stages::launch_routing(slab, nullptr);
  }
  EXPECT_TRUE(error.ok()) << error.kernel << ": " << kernels::error_text(error);
  EXPECT_EQ(cudaSuccess, cudaDeviceSynchronize());
  const std::int64_t slots = layer.tokens() * sizes.picks;
  Packed p;
  p.sizes = sizes;
  p.pick_expert = call.fetch(slab.workspace.pick_expert, slots);
  p.pick_row = call.fetch(slab.workspace.pick_row, slots);
  p.row_to_token = call.fetch(slab.workspace.row_to_token, slots);
  p.expert_begin =
      call.fetch(slab.workspace.expert_begin, sizes.max_chunks * (layer.geometry().local_experts + std::int64_t{1}));
  p.chunks = call.fetch(slab.workspace.chunks, sizes.max_chunks);
  return p;
}

// The chunks, found greedily from the blocks' rows.
std::vector<stages::Chunk> expected_chunks(const Packed& p, std::int64_t tokens) {
  std::vector<stages::Chunk> chunks(1);
  for (std::int64_t block = 0; block < tokens; block += plan::kTokenBlock) {
    const std::int64_t end = std::min<std::int64_t>(block + plan::kTokenBlock, tokens);
    std::int32_t rows = 0;
    for (std::int64_t slot = block * p.sizes.picks; slot < end * p.sizes.picks; ++slot) {
      rows += p.pick_expert[static_cast<std::size_t>(slot)] >= 0 ? 1 : 0;
    }
    if (chunks.back().rows + rows > p.sizes.row_capacity) {
      const stages::Chunk& last = chunks.back();
      chunks.push_back({last.token_end, last.token_end, 0, last.row_base + last.rows});
    }
    chunks.back().rows += rows;
    chunks.back().token_end = static_cast<std::int32_t>(end);
  }
  while (static_cast<std::int32_t>(chunks.size()) < p.sizes.max_chunks) {
    chunks.push_back({static_cast<std::int32_t>(tokens), static_cast<std::int32_t>(tokens), 0, 0});
  }
  return chunks;
}

void check(const Layer& layer, const Packed& p) {
  const std::int64_t local = layer.geometry().local_experts;
  const auto chunks = expected_chunks(p, layer.tokens());
  ASSERT_EQ(chunks.size(), p.chunks.size());
  for (std::size_t c = 0; c < chunks.size(); ++c) {
    SCOPED_TRACE("chunk " + std::to_string(c));
    ASSERT_EQ(chunks[c].token_begin, p.chunks[c].token_begin);
    ASSERT_EQ(chunks[c].token_end, p.chunks[c].token_end);
    ASSERT_EQ(chunks[c].rows, p.chunks[c].rows);
    ASSERT_EQ(chunks[c].row_base, p.chunks[c].row_base);
    ASSERT_LE(chunks[c].rows, p.sizes.row_capacity);

    // Rows in the order (expert, token), one after the other.
    std::vector<std::int32_t> begin;
    std::vector<std::int32_t> tokens;
    for (std::int32_t e = 0; e < local; ++e) {
      begin.push_back(static_cast<std::int32_t>(tokens.size()));
      for (std::int32_t t = chunks[c].token_begin; t < chunks[c].token_end; ++t) {
        for (std::int32_t j = 0; j < p.sizes.picks; ++j) {
          const auto slot = static_cast<std::size_t>(std::int64_t{t} * p.sizes.picks + j);
          if (p.pick_expert[slot] != e) continue;
          ASSERT_EQ(static_cast<std::int32_t>(tokens.size()), p.pick_row[slot]) << "token " << t << " pick " << j;
          tokens.push_back(t);
        }
      }
    }
    begin.push_back(static_cast<std::int32_t>(tokens.size()));
    const auto first = p.expert_begin.begin() + static_cast<std::ptrdiff_t>(c) * (local + 1);
    ASSERT_EQ(begin, std::vector<std::int32_t>(first, first + local + 1));
    const auto row = p.row_to_token.begin() + chunks[c].row_base;
    ASSERT_EQ(tokens, std::vector<std::int32_t>(row, row + chunks[c].rows));
  }
  for (std::size_t slot = 0; slot < p.pick_expert.size(); ++slot) {
    ASSERT_EQ(p.pick_expert[slot] < 0, p.pick_row[slot] < 0) << "slot " << slot;
  }
}

LayerOptions options_of(std::int32_t experts, std::int32_t local_experts, std::int32_t top_k, std::int64_t tokens) {
  LayerOptions options;
  options.geometry = {128, 128, experts, local_experts, top_k, 1, 1};
  options.tokens = tokens;
  options.local_expert_offset = (experts - local_experts) / 2;
  return options;
}

TEST_F(PackTest, rows_stand_in_the_order_of_expert_and_token) {
  for (const std::int64_t tokens : {1, 2, 31, 32, 33, 100, 1000, 16384}) {
    for (const std::int32_t local : {1, 5, 16, 17, 32, 256}) {
      SCOPED_TRACE("T " + std::to_string(tokens) + " L " + std::to_string(local));
      const Layer layer = draw_layer(options_of(256, local, 8, tokens));
      check(layer, pack(layer, plan::sizes_of(layer.geometry(), tokens)));
    }
  }
}

TEST_F(PackTest, a_thousand_experts_of_which_a_token_picks_thirty_two) {
  const Layer layer = draw_layer(options_of(1024, 1024, 32, 700));
  check(layer, pack(layer, plan::sizes_of(layer.geometry(), layer.tokens())));
}

TEST_F(PackTest, chunks_take_as_many_token_blocks_as_fit) {
  for (const std::int64_t capacity : {256, 300, 512, 1000, 4096}) {
    for (const std::int32_t local : {8, 32, 256}) {
      SCOPED_TRACE("R " + std::to_string(capacity) + " L " + std::to_string(local));
      const Layer layer = draw_layer(options_of(256, local, 8, 3000));
      check(layer, pack(layer, sizes_with_capacity(layer.geometry(), layer.tokens(), capacity)));
    }
  }
}

TEST_F(PackTest, all_tokens_on_one_expert) {
  for (const std::int32_t chosen : {0, 13, 31}) {
    Layer layer = draw_layer(options_of(256, 32, 1, 2000));
    for (std::int64_t t = 0; t < layer.tokens(); ++t) {
      layer.logits[static_cast<std::size_t>(t * 256 + layer.options.local_expert_offset + chosen)] = 50.0F;
    }
    layer.options.has_bias = false;
    check(layer, pack(layer, plan::sizes_of(layer.geometry(), layer.tokens())));
    check(layer, pack(layer, sizes_with_capacity(layer.geometry(), layer.tokens(), 512)));
  }
}

LayerOptions grouped_options(std::int32_t local_experts, std::int64_t tokens) {
  LayerOptions options;  // DeepSeek-V3's grouping
  options.geometry.hidden = 128;
  options.geometry.intermediate = 128;
  options.geometry.local_experts = local_experts;
  options.tokens = tokens;
  return options;
}

// Around every number of tokens at which the launch takes another kernel or another share of a token for a lane.
TEST_F(PackTest, few_tokens_routed_and_packed_at_once_stand_in_the_same_order) {
  for (const std::int64_t tokens : {1, 2, 8, 9, 16, 17, 31, 32, 33, 64, 65, 96, 97, 127, 128, 129}) {
    for (const std::int32_t local : {1, 5, 32, 33, 256}) {
      SCOPED_TRACE("T " + std::to_string(tokens) + " L " + std::to_string(local));
      const Layer layer = draw_layer(grouped_options(local, tokens));
      check(layer, pack(layer, plan::sizes_of(layer.geometry(), tokens), Launch::routing));
    }
  }
}

TEST_F(PackTest, few_tokens_whose_rows_need_several_chunks) {
  const Layer layer = draw_layer(grouped_options(256, 128));
  check(layer, pack(layer, sizes_with_capacity(layer.geometry(), layer.tokens(), 300), Launch::routing));
}

TEST_F(PackTest, the_paths_counters_become_zero) {
  constexpr std::int32_t kWords = 3000;
  for (const std::int64_t tokens : {1, 16, 128, 129, 5000}) {
    const Layer layer = draw_layer(grouped_options(32, tokens));
    const DeviceCall device(layer);
    const StageCall call(device, layer.geometry());
    const DeviceArray<std::uint32_t> counters(std::vector<std::uint32_t>(kWords, 7));
    stages::Slab slab = call.slab();
    slab.counters = counters.get();
    slab.counter_words = kWords;
    EXPECT_TRUE(stages::launch_routing(slab, nullptr).ok());
    EXPECT_EQ(std::vector<std::uint32_t>(kWords, 0), counters.host()) << "T = " << tokens;
  }
}

TEST_F(PackTest, no_token_has_a_local_pick) {
  LayerOptions options = options_of(256, 32, 8, 500);
  options.local_expert_offset = 4000;
  const Layer layer = draw_layer(options);
  check(layer, pack(layer, plan::sizes_of(layer.geometry(), layer.tokens())));
}

}  // namespace
}  // namespace blockmoe::test
