// How a call is cut: the ceiling of the workspace and the bounds that the device relies on.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "plan/sizes.h"

namespace blockmoe::kernels::plan {
namespace {

using contract::Geometry;

const std::vector<Geometry>& geometries() {
  static const std::vector<Geometry> all = {
      Geometry{},
      {128, 128, 1, 1, 1, 1, 1},
      {7168, 2048, 256, 256, 8, 8, 4},
      {65536, 65536, 1024, 1024, 32, 1, 1},
      {65536, 65536, 1, 1, 1, 1, 1},
      {5120, 1536, 160, 20, 6, 8, 3},
      {4096, 14336, 8, 8, 2, 1, 1},
      {128, 65536, 1024, 3, 32, 8, 4},
  };
  return all;
}

const std::vector<std::int64_t>& token_counts() {
  static const std::vector<std::int64_t> all = {0,    1,    2,     31,    32,    33,    100,    512,     513,       901,
                                                1697, 4096, 11948, 14107, 16384, 16385, 100000, 1048576, 1073741824};
  return all;
}

constexpr RowType kTypes[] = {RowType::f32, RowType::bf16, RowType::f16};  // of rows too many for f32
constexpr auto kTwoTerms = contract::IntermediateType::e4m3x2;             // with which all rows are in f32

TEST(Sizes, workspace_of_deepseek_v3_stays_below_450_mb_at_any_t) {
  for (const RowType many : kTypes) {
    for (const std::int64_t tokens : token_counts()) {
      EXPECT_LT(workspace_bytes(Geometry{}, tokens, many), 450'000'000U) << tokens;
    }
  }
  for (const std::int64_t tokens : token_counts()) {
    EXPECT_LT(workspace_bytes(Geometry{}, tokens, RowType::f32, kTwoTerms), 450'000'000U) << tokens;
  }
}

TEST(Sizes, two_terms_of_the_intermediate_take_twice_its_bytes) {
  const Sizes one = sizes_of(Geometry{}, 64, RowType::f32), two = sizes_of(Geometry{}, 64, RowType::f32, kTwoTerms);
  EXPECT_EQ(two.terms, 2);
  const Offsets with_one = offsets_of(Geometry{}, one), with_two = offsets_of(Geometry{}, two);
  EXPECT_EQ(with_two.inter_scale - with_two.inter, 2 * (with_one.inter_scale - with_one.inter));
  EXPECT_EQ(with_two.rows - with_two.inter_scale, 2 * (with_one.rows - with_one.inter_scale));
}

TEST(Sizes, a_larger_plan_has_room_for_every_smaller_call) {
  for (const Geometry& g : geometries()) {
    for (const RowType many : kTypes) {
      for (const std::int64_t most : token_counts()) {
        const std::size_t room = workspace_bytes(g, most, many);
        for (const std::int64_t tokens : token_counts()) {
          if (tokens > most) break;
          ASSERT_LE(offsets_of(g, sizes_of(g, tokens, many)).bytes, room) << tokens << " of " << most;
          if (many != RowType::f32) continue;
          ASSERT_LE(offsets_of(g, sizes_of(g, tokens, many, kTwoTerms)).bytes,
                    workspace_bytes(g, most, many, kTwoTerms))
              << tokens << " of " << most;
        }
      }
    }
  }
}

TEST(Sizes, ordinary_routing_to_16384_tokens_is_one_chunk) {
  for (std::int64_t tokens = 1; tokens <= 16384; ++tokens) {
    const Sizes s = sizes_of(Geometry{}, tokens, tokens % 2 == 0 ? RowType::bf16 : RowType::f16);
    ASSERT_EQ(1, s.slabs) << tokens;
    // DeepSeek-V3 has one local pick a token on average; half as many more are room to spare.
    ASSERT_GE(s.row_capacity, std::min(tokens + tokens / 2, tokens * 8)) << tokens;
  }
}

TEST(Sizes, slabs_cover_all_tokens_in_whole_token_blocks) {
  for (const Geometry& g : geometries()) {
    for (const std::int64_t tokens : token_counts()) {
      const Sizes s = sizes_of(g, tokens);
      ASSERT_EQ(0, s.slab_tokens % kTokenBlock);
      ASSERT_LE(s.slab_tokens, s.slab_capacity);
      ASSERT_LE(s.slab_capacity, kMaxSlabTokens);
      ASSERT_GE(s.slabs * s.slab_tokens, tokens);
      ASSERT_LE((s.slabs - 1) * s.slab_tokens, tokens);
    }
  }
}

// The device closes a chunk before the token block that does not fit.
std::int32_t chunks_of(const std::vector<std::int64_t>& rows_of_block, std::int64_t capacity) {
  std::int32_t chunks = 1;
  std::int64_t rows = 0;
  for (const std::int64_t more : rows_of_block) {
    EXPECT_LE(more, capacity);
    if (rows + more > capacity) {
      ++chunks;
      rows = 0;
    }
    rows += more;
  }
  return chunks;
}

TEST(Sizes, no_routing_needs_more_chunks_than_are_launched) {
  std::mt19937 engine(1);
  for (const Geometry& g : geometries()) {
    for (const std::int64_t tokens : token_counts()) {
      const Sizes s = sizes_of(g, tokens);
      if (tokens == 0) continue;
      ASSERT_LE(s.max_chunks, kMaxChunks);
      const std::int64_t slab = std::min(tokens, s.slab_tokens);
      for (int draw = 0; draw < 20; ++draw) {
        std::vector<std::int64_t> rows;
        for (std::int64_t t = 0; t < slab; t += kTokenBlock) {
          const std::int64_t most = std::min<std::int64_t>(kTokenBlock, slab - t) * s.picks;
          const bool full = draw == 0 || engine() % 8 != 0;
          rows.push_back(full ? most : static_cast<std::int64_t>(engine()) % (most + 1));
        }
        ASSERT_LE(chunks_of(rows, s.row_capacity), s.max_chunks) << "T = " << tokens;
      }
    }
  }
}

TEST(Sizes, only_large_calls_keep_rows_in_16_bits) {
  EXPECT_EQ(RowType::f32, sizes_of(Geometry{}, 512).row_type);
  EXPECT_EQ(RowType::bf16, sizes_of(Geometry{}, 513).row_type);
  EXPECT_EQ(RowType::f16, sizes_of(Geometry{}, 14107, RowType::f16).row_type);
  EXPECT_EQ(RowType::f32, sizes_of(Geometry{}, 512, RowType::f16).row_type);
}

TEST(Sizes, rows_in_f32_fit_the_budget_and_a_part_of_l2) {
  for (const Geometry& g : geometries()) {
    for (const std::int64_t tokens : token_counts()) {
      const Sizes s = sizes_of(g, tokens);
      if (s.row_type != RowType::f32 || tokens <= kTokenBlock) continue;
      // By ordinary routing; a token has top_k * L / E local picks.
      ASSERT_LE(tokens * g.top_k * g.local_experts * g.hidden * 4, kF32RowBytes * g.experts) << tokens;
      ASSERT_LE(s.row_capacity * g.hidden * 4, kRowBudget) << tokens;
    }
  }
}

}  // namespace
}  // namespace blockmoe::kernels::plan
