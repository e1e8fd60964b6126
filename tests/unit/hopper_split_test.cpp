// How kernels/hopper shares tiles among CTAs: every K block computed once, nobody waits for a later part.
#include "hopper/split.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <vector>

namespace blockmoe {
namespace {

using kernels::hopper::Item;
using kernels::hopper::item_of;
using kernels::hopper::make_split;
using kernels::hopper::Part;
using kernels::hopper::part_of;
using kernels::hopper::Split;

struct Piece {
  int part, ordinal, k_begin, k_end;
};

// The pieces of each tile, all parts' items walked.
std::vector<std::vector<Piece>> pieces_of(const Split& split) {
  std::vector<std::vector<Piece>> tiles(static_cast<std::size_t>(split.tiles));
  for (int number = 0; number < split.parts(); ++number) {
    const Part part = part_of(split, number);
    for (int i = 0; i < part.items; ++i) {
      const Item item = item_of(split, part, i);
      tiles.at(static_cast<std::size_t>(item.tile)).push_back({number, i, item.k_begin, item.k_end});
    }
  }
  return tiles;
}

class HopperSplit : public testing::TestWithParam<int> {};

TEST_P(HopperSplit, every_k_block_of_every_tile_is_computed_once_and_sums_come_from_lower_parts) {
  const int ctas = GetParam();
  for (const int k_blocks : {1, 2, 16, 56}) {
    for (const int most_pieces : {1, 3, 4, 8}) {
      for (int tiles = 0; tiles <= 3 * ctas + 2; tiles += tiles < 20 ? 1 : 7) {
        const Split split = make_split(tiles, k_blocks, ctas, most_pieces, tiles % 3 != 0);
        for (const auto& pieces : pieces_of(split)) {
          // Parts were walked upwards, so pieces must follow each other in K, and the last, the owner, has the end.
          int next = 0;
          for (const Piece& piece : pieces) {
            ASSERT_EQ(next, piece.k_begin) << tiles << " tiles on " << ctas;
            ASSERT_LT(piece.k_begin, piece.k_end);
            next = piece.k_end;
          }
          ASSERT_EQ(k_blocks, next) << tiles << " tiles on " << ctas;
        }
      }
    }
  }
}

TEST_P(HopperSplit, contributors_are_the_shares_between_the_first_and_the_owner_and_leave_their_sums_first) {
  const int ctas = GetParam();
  for (const int k_blocks : {2, 16, 56}) {
    for (int tiles = 1; tiles < 2 * ctas; ++tiles) {
      const Split split = make_split(tiles, k_blocks, ctas, 8, true);
      for (const auto& pieces : pieces_of(split)) {
        if (pieces.size() < 2) continue;
        const Part owner = part_of(split, pieces.back().part);
        ASSERT_EQ(pieces.back().part, split.whole_tiles + owner.share);
        ASSERT_EQ(pieces.front().part, split.whole_tiles + owner.first_contributor);
        for (std::size_t i = 0; i + 1 < pieces.size(); ++i) {
          ASSERT_EQ(pieces.front().part + static_cast<int>(i), pieces[i].part);
          ASSERT_EQ(0, pieces[i].ordinal) << "a share's sums are left before its CTA can wait for anyone";
        }
      }
    }
  }
}

TEST_P(HopperSplit, shares_are_no_more_than_ctas_and_differ_by_one_k_block_at_most) {
  const int ctas = GetParam();
  for (const int tiles : {ctas / 2 + 1, ctas + ctas / 3 + 1, 3 * ctas}) {
    const Split split = make_split(tiles, 56, ctas, 8, true);
    ASSERT_LE(split.shares, ctas);
    for (int s = 0; s < split.shares; ++s) {
      const int units = split.share_begin(s + 1) - split.share_begin(s);
      const int even = (split.tiles - split.whole_tiles) * 56 / split.shares;
      ASSERT_GE(units, even);
      ASSERT_LE(units, even + 1);
    }
  }
}

TEST_P(HopperSplit, a_leftover_that_is_not_to_be_cut_stays_whole) {
  const int ctas = GetParam();
  for (int tiles = ctas + 1; tiles < 3 * ctas; ++tiles) {
    const Split split = make_split(tiles, 56, ctas, 8, false);
    ASSERT_EQ(tiles, split.whole_tiles);
    ASSERT_EQ(tiles, split.parts());
  }
  for (int tiles = 1; tiles < ctas / 2; ++tiles) ASSERT_EQ(0, make_split(tiles, 56, ctas, 8, false).whole_tiles);
}

INSTANTIATE_TEST_SUITE_P(Ctas, HopperSplit, testing::Values(1, 2, 37, 78, 100, 132, 144));

}  // namespace
}  // namespace blockmoe
