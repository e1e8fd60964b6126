// How kernels/hopper shares tiles among CTAs: every K block computed once, nobody waits for a higher CTA.
#include "hopper/split.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <vector>

namespace blockmoe {
namespace {

using kernels::hopper::Item;
using kernels::hopper::item_at;
using kernels::hopper::make_split;
using kernels::hopper::Share;
using kernels::hopper::share_of;
using kernels::hopper::Split;

struct Piece {
  int cta, ordinal, k_begin, k_end;
};

// The pieces of each tile, all CTAs' items walked.
std::vector<std::vector<Piece>> pieces_of(const Split& split) {
  std::vector<std::vector<Piece>> tiles(static_cast<std::size_t>(split.tiles));
  for (int cta = 0; cta < split.ctas; ++cta) {
    const Share share = share_of(split, cta);
    Item item;
    for (int i = 0; item_at(split, share, cta, i, &item); ++i) {
      tiles.at(static_cast<std::size_t>(item.tile)).push_back({cta, i, item.k_begin, item.k_end});
    }
  }
  return tiles;
}

class HopperSplit : public testing::TestWithParam<int> {};

TEST_P(HopperSplit, every_k_block_of_every_tile_is_computed_once_and_sums_come_from_lower_ctas) {
  const int ctas = GetParam();
  for (const int k_blocks : {1, 2, 16, 56}) {
    for (const int most_pieces : {1, 3, 4, 8}) {
      for (int tiles = 0; tiles <= 3 * ctas + 2; tiles += tiles < 20 ? 1 : 7) {
        const Split split = make_split(tiles, k_blocks, ctas, most_pieces);
        for (const auto& pieces : pieces_of(split)) {
          int covered = 0;
          for (const Piece& piece : pieces) covered += piece.k_end - piece.k_begin;
          ASSERT_EQ(k_blocks, covered) << tiles << " tiles on " << ctas;
          // CTAs were walked upwards, so pieces must follow each other in K, and the last, the owner, has the end.
          int next = 0;
          for (const Piece& piece : pieces) {
            ASSERT_EQ(next, piece.k_begin);
            ASSERT_LT(piece.k_begin, piece.k_end);
            next = piece.k_end;
          }
          ASSERT_EQ(k_blocks, next);
        }
      }
    }
  }
}

TEST_P(HopperSplit, contributors_are_the_ctas_between_the_first_and_the_owner_and_leave_their_sums_first) {
  const int ctas = GetParam();
  for (const int k_blocks : {2, 16, 56}) {
    for (int tiles = 1; tiles < ctas; ++tiles) {
      const Split split = make_split(tiles, k_blocks, ctas, 8);
      const auto all = pieces_of(split);
      for (const auto& pieces : all) {
        if (pieces.size() < 2) continue;
        const int owner = pieces.back().cta;
        ASSERT_EQ(pieces.front().cta, share_of(split, owner).first_contributor);
        for (std::size_t i = 0; i + 1 < pieces.size(); ++i) {
          ASSERT_EQ(pieces.front().cta + static_cast<int>(i), pieces[i].cta);
          ASSERT_EQ(0, pieces[i].ordinal) << "a CTA leaves its sums before it can wait for anyone";
        }
      }
    }
  }
}

TEST_P(HopperSplit, shares_of_cut_tiles_differ_by_one_k_block_at_most) {
  const int ctas = GetParam();
  const Split split = make_split(ctas / 2 + 1, 56, ctas, 8);
  for (int cta = 0; cta < split.sharers; ++cta) {
    const int units = split.share_begin(cta + 1) - split.share_begin(cta);
    const int even = split.cut_tiles * 56 / split.sharers;
    ASSERT_GE(units, even);
    ASSERT_LE(units, even + 1);
  }
}

INSTANTIATE_TEST_SUITE_P(Ctas, HopperSplit, testing::Values(1, 2, 37, 78, 100, 132, 144));

}  // namespace
}  // namespace blockmoe
