// split.h: how a product's tiles become parts, which CTAs take one after the other. Host and device.
//
// T' tiles of B K blocks each, G CTAs. As many tiles as fill whole waves are parts of their own. What is left over (all of it,
// when there are fewer tiles than CTAs) is laid end to end and cut into equal shares of K blocks, where that pays, so that one
// expert's weights keep every multiprocessor as busy as 32 experts' do; these are the last parts.
//
// CTAs take parts in rising order, each the next one when it is about to be done: the parts in work at any time are neighbours,
// which read the same weights and the same rows, and no CTA waits for a slower one.
//
// A tile that was cut has one owner, the share with the end of its K; the others leave their sums in memory, and the owner adds
// them in falling order of shares: the same order, hence the same bits, each time. Within a share the later tile comes first: so
// a share's sums are left before its CTA waits for anyone, and it waits for lower shares only, which running CTAs took before.
// However few CTAs run at once, and in whatever order, nobody hangs.
#pragma once

#include <cstdint>

#include "contract/host_device.h"

namespace blockmoe::kernels::hopper {

struct Split {
  std::int32_t tiles = 0;
  std::int32_t k_blocks = 0;
  std::int32_t whole_tiles = 0;  // tiles [0, whole_tiles) are parts as they are, the others are cut
  std::int32_t shares = 0;       // at least as many as cut tiles, so that a share spans two tiles at most

  BLOCKMOE_HD std::int32_t parts() const { return whole_tiles + shares; }

  // First unit (K block, over all cut tiles) of share s, for s = 0..shares. Cut tiles are fewer than CTAs, so that this fits
  // 32 bits for every width and device.
  BLOCKMOE_HD std::int32_t share_begin(std::int32_t s) const {
    return static_cast<std::int32_t>(static_cast<std::uint32_t>((tiles - whole_tiles) * k_blocks) *
                                     static_cast<std::uint32_t>(s) / static_cast<std::uint32_t>(shares));
  }
};

// `most_pieces`: shares of one tile, at least 1. `cuts_leftover`: whether what whole waves leave over is cut; without, only fewer
// tiles than CTAs are. A leftover that nearly fills a wave never is: it would cost more than the idle CTAs.
BLOCKMOE_HD Split make_split(std::int32_t tiles, std::int32_t k_blocks, std::int32_t ctas, std::int32_t most_pieces,
                             bool cuts_leftover) {
  Split split;
  split.tiles = tiles;
  split.k_blocks = k_blocks;
  split.whole_tiles = tiles;
  const std::int32_t left_over = tiles % ctas;
  if (left_over * 8 >= ctas * 7 || (tiles > ctas && !cuts_leftover)) return split;
  const std::int32_t pieces = most_pieces < k_blocks ? most_pieces : k_blocks;
  const std::int32_t wanted = left_over * pieces;
  split.whole_tiles = tiles - left_over;
  split.shares = wanted < ctas ? wanted : ctas;
  return split;
}

// A part's K blocks in one tile: [k_begin, k_end) of `tile`; all of them, or those of a share.
struct Item {
  std::int32_t tile = 0;
  std::int32_t k_begin = 0;
  std::int32_t k_end = 0;
};

struct Part {
  std::int32_t items = 0;
  std::int32_t last_tile = 0;
  std::int32_t begin =
      0;  // units [begin, end), counted from the first cut tile; of a whole tile, from its own beginning
  std::int32_t end = 0;
  std::int32_t origin = 0;             // unit of last_tile's first K block
  std::int32_t share = 0;              // its number; of a whole tile, none
  std::int32_t first_contributor = 0;  // the share with the first K block of the share's first tile
};

// `number` < split.parts().
BLOCKMOE_HD Part part_of(const Split& split, std::int32_t number) {
  Part part;
  if (number < split.whole_tiles) {
    part.items = 1;
    part.last_tile = number;
    part.end = split.k_blocks;
    return part;
  }
  part.share = number - split.whole_tiles;
  part.begin = split.share_begin(part.share);
  part.end = split.share_begin(part.share + 1);
  const std::int32_t first = part.begin / split.k_blocks, last = (part.end - 1) / split.k_blocks;
  part.items = last - first + 1;
  part.last_tile = split.whole_tiles + last;
  part.origin = last * split.k_blocks;
  part.first_contributor = part.share;
  while (split.share_begin(part.first_contributor) > first * split.k_blocks) --part.first_contributor;
  return part;
}

// The `ordinal`-th item of a part, ordinal < part.items.
//
// Where it has the end of a cut tile but not its beginning, shares [part.first_contributor, part.share) leave sums for it.
BLOCKMOE_HD Item item_of(const Split& split, const Part& part, std::int32_t ordinal) {
  const std::int32_t origin = part.origin - ordinal * split.k_blocks;
  Item item;
  item.tile = part.last_tile - ordinal;
  item.k_begin = part.begin > origin ? part.begin - origin : 0;
  item.k_end = part.end - origin < split.k_blocks ? part.end - origin : split.k_blocks;
  return item;
}

}  // namespace blockmoe::kernels::hopper
