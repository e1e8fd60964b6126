// Which products and tiles a call on Blackwell runs (kernels/plan/blackwell_policy.h): the original's branches at each of their
// borders, by a table written from their description; and our own tiles.
#include "plan/blackwell_policy.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>

namespace blockmoe::kernels::plan {
namespace {

using enum Implementation;

constexpr std::int64_t kTokens[] = {1, 7, 80, 81, 900, 901, 9999, 10000};
constexpr std::int64_t kRows[] = {0, 1, 128, 129, 2048, 2049, 20000, 20001};
constexpr bool kNo = false;
constexpr bool kYes = true;

// Whether the original's gemm1 is TRTLLM's: a line a T, a column a number of rows.
constexpr bool kGemm1IsTrtllm[8][8] = {
    // 0    1    128   129   2048  2049  20000 20001 rows
    {kNo, kYes, kYes, kYes, kYes, kYes, kYes, kYes},  // T = 1
    {kNo, kNo, kNo, kNo, kNo, kNo, kNo, kNo},         // 7
    {kNo, kYes, kYes, kYes, kYes, kYes, kYes, kYes},  // 80
    {kNo, kYes, kYes, kNo, kNo, kNo, kNo, kNo},       // 81
    {kNo, kYes, kYes, kNo, kNo, kNo, kNo, kNo},       // 900
    {kNo, kYes, kYes, kYes, kYes, kYes, kYes, kYes},  // 901
    {kNo, kYes, kYes, kYes, kYes, kYes, kYes, kYes},  // 9999
    {kNo, kYes, kYes, kNo, kNo, kNo, kNo, kNo},       // 10000
};
constexpr bool kGemm2IsTrtllm[8] = {kNo, kYes, kYes, kYes, kYes, kYes, kYes, kNo};  // whatever T is

ImplementationRule reference() {
  ImplementationRule rule;
  rule.policy = Policy::reference_b200;
  rule.trtllm_there = true;
  return rule;
}

template <typename Check>
void at_every_border(const Check& check) {
  for (std::size_t t = 0; t < 8; ++t) {
    for (std::size_t r = 0; r < 8; ++r) {
      SCOPED_TRACE("T = " + std::to_string(kTokens[t]) + ", rows " + std::to_string(kRows[r]));
      check(t, r);
    }
  }
}

TEST(BlackwellPolicy, reference_b200_takes_the_originals_branch_at_every_border) {
  const ImplementationRule rule = reference();
  at_every_border([&](std::size_t t, std::size_t r) {
    EXPECT_EQ(rule.choice(Product::gemm1, kTokens[t], kRows[r]), kGemm1IsTrtllm[t][r] ? trtllm : cutlass);
    EXPECT_EQ(rule.choice(Product::gemm2, kTokens[t], kRows[r]), kGemm2IsTrtllm[r] ? trtllm : cutlass);
  });
}

TEST(BlackwellPolicy, without_cubins_every_policy_is_cutlass) {
  for (const Policy policy : {Policy::automatic, Policy::reference_b200, Policy::cutlass, Policy::trtllm}) {
    ImplementationRule rule;
    rule.policy = policy;
    at_every_border([&](std::size_t t, std::size_t r) {
      for (const Product product : {Product::gemm1, Product::gemm2}) {
        EXPECT_EQ(rule.choice(product, kTokens[t], kRows[r]), cutlass);
      }
    });
  }
}

TEST(BlackwellPolicy, the_other_policies_look_at_no_rows) {
  ImplementationRule rule = reference();
  at_every_border([&](std::size_t t, std::size_t r) {
    for (const Product product : {Product::gemm1, Product::gemm2}) {
      rule.policy = Policy::trtllm;
      EXPECT_EQ(rule.choice(product, kTokens[t], kRows[r]), trtllm);
      rule.policy = Policy::cutlass;
      EXPECT_EQ(rule.choice(product, kTokens[t], kRows[r]), cutlass);
      rule.policy = Policy::automatic;
      EXPECT_EQ(rule.choice(product, kTokens[t], kRows[r]), cutlass);
    }
  });
}

TEST(BlackwellPolicy, each_switch_turns_what_it_says) {
  ImplementationRule no_gemm1 = reference();
  no_gemm1.switches.trtllm_gemm1 = false;
  ImplementationRule no_gemm2 = reference();
  no_gemm2.switches.trtllm_gemm2 = false;
  at_every_border([&](std::size_t t, std::size_t r) {
    EXPECT_EQ(no_gemm1.choice(Product::gemm1, kTokens[t], kRows[r]), cutlass);
    EXPECT_EQ(no_gemm1.choice(Product::gemm2, kTokens[t], kRows[r]),
              reference().choice(Product::gemm2, kTokens[t], kRows[r]));
    EXPECT_EQ(no_gemm2.choice(Product::gemm1, kTokens[t], kRows[r]),
              reference().choice(Product::gemm1, kTokens[t], kRows[r]));
    EXPECT_EQ(no_gemm2.choice(Product::gemm2, kTokens[t], kRows[r]), cutlass);
  });
  ImplementationRule fewer = reference();
  fewer.switches.trtllm_gemm2_most_rows = 128;
  EXPECT_EQ(fewer.choice(Product::gemm2, 1000, 128), trtllm);
  EXPECT_EQ(fewer.choice(Product::gemm2, 1000, 129), cutlass);
  ImplementationRule with_mma = reference();
  with_mma.switches.mma_gemm2_rows = 2048;
  EXPECT_EQ(with_mma.choice(Product::gemm2, 1000, 2048), trtllm);
  EXPECT_EQ(with_mma.choice(Product::gemm2, 1000, 2049), mma);
  EXPECT_EQ(with_mma.choice(Product::gemm2, 1000, 20001), mma);
  EXPECT_EQ(with_mma.choice(Product::gemm1, 1000, 2049), trtllm);
}

TEST(BlackwellPolicy, launched_is_exactly_what_some_number_of_rows_chooses) {
  ImplementationRule rules[] = {reference(), reference(), reference(), ImplementationRule()};
  rules[1].switches.mma_gemm2_rows = 300;
  rules[2].switches.trtllm_gemm2_most_rows = 5;
  for (const ImplementationRule& rule : rules) {
    for (const std::int64_t tokens : kTokens) {
      for (const std::int64_t most_rows : {0, 1, 5, 6, 128, 129, 300, 301, 4000, 20000, 20001, 21000}) {
        for (const Product product : {Product::gemm1, Product::gemm2}) {
          bool chosen[kImplementations] = {};
          for (std::int64_t rows = 0; rows <= most_rows; ++rows) {
            chosen[static_cast<std::size_t>(rule.choice(product, tokens, rows))] = true;
          }
          for (const Implementation i : {cutlass, trtllm, mma}) {
            EXPECT_EQ(may_choose(rule, product, i, tokens, most_rows), chosen[static_cast<std::size_t>(i)])
                << "T = " << tokens << ", at most " << most_rows << " rows";
          }
        }
      }
    }
  }
}

TEST(BlackwellPolicy, reference_b200_chooses_tiles_by_all_rows) {
  const TileTable tiles = blackwell_tiles(Policy::reference_b200, {}, 16384).tiles;
  const auto tile = [&](std::int64_t rows) { return tiles.rows[tiles.index_of(rows, 7)].tile; };
  for (const std::int64_t rows : {0, 1}) EXPECT_EQ(tile(rows), BlackwellTile::m64n128);
  for (const std::int64_t rows : {2, 128, 129, 2048}) EXPECT_EQ(tile(rows), BlackwellTile::m64n256);
  for (const std::int64_t rows : {2049, 20000, 20001}) EXPECT_EQ(tile(rows), BlackwellTile::m128n128);
}

TEST(BlackwellPolicy, tiles_that_no_routing_can_reach_are_not_launched) {
  const contract::Geometry model;
  EXPECT_EQ(blackwell_tiles(Policy::reference_b200, model, 1).tiles.count, 2);    // at most 8 rows
  EXPECT_EQ(blackwell_tiles(Policy::reference_b200, model, 256).tiles.count, 2);  // 2048
  EXPECT_EQ(blackwell_tiles(Policy::reference_b200, model, 257).tiles.count, 3);
  EXPECT_EQ(blackwell_tiles(Policy::automatic, model, 16).tiles.count, 1);  // an expert has at most a row a token
  EXPECT_EQ(blackwell_tiles(Policy::automatic, model, 17).tiles.count, 2);
}

TEST(BlackwellPolicy, our_tiles_fit_each_experts_rows) {
  const contract::Geometry model;
  for (std::int64_t tokens = 1; tokens <= 131072; tokens *= 2) {
    const ChosenTiles chosen = blackwell_tiles(Policy::automatic, model, tokens);
    EXPECT_TRUE(chosen.tiles.by_expert);
    EXPECT_STRNE(chosen.reason, "");
    std::int64_t before = 0;
    for (std::int32_t i = 0; i + 1 < chosen.tiles.count; ++i) {
      EXPECT_GT(chosen.tiles.rows[i].most_rows, before);
      before = chosen.tiles.rows[i].most_rows;
      EXPECT_EQ(chosen.tiles.index_of(1 << 20, before), i);
      EXPECT_EQ(chosen.tiles.index_of(1 << 20, before + 1), i + 1);
    }
  }
  EXPECT_EQ(blackwell_tiles(Policy::automatic, model, 1).tiles.rows[0].tile, BlackwellTile::swapped_m128n16);
  EXPECT_EQ(blackwell_tiles(Policy::automatic, model, 16384).tiles.rows[1].tile, BlackwellTile::m256n128);
}

TEST(BlackwellPolicy, every_policy_has_a_name_and_a_reason) {
  for (std::size_t i = 0; i < kPolicies.size(); ++i) {
    EXPECT_EQ(kPolicies[i].policy, static_cast<Policy>(i));
    EXPECT_STRNE(kPolicies[i].name, "");
    EXPECT_STRNE(kPolicies[i].reason, "");
  }
}

}  // namespace
}  // namespace blockmoe::kernels::plan
