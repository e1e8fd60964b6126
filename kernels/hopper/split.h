// split.h: which CTA computes which tiles, and which part of K. Host and device.
//
// T' tiles of B K blocks each, G CTAs. As many tiles as fill whole waves are dealt out whole, CTA c taking every G-th, so
// that neighbours work on the same weights and the same rows at the same time. What is left over (all of it, when there are
// fewer tiles than CTAs) is laid end to end and cut into equal shares of K blocks, so that one expert's weights keep every
// multiprocessor as busy as 32 experts' do.
//
// A tile that was cut has one owner, the CTA with the end of its K; the others leave their sums in memory, and the owner adds
// them in falling order of CTAs: the same order, hence the same bits, each time. Shares come first, and within a share the
// later tile: so a CTA's sums are left before it waits for anyone, and it waits for lower CTAs only. No order in which the
// hardware starts CTAs 0, 1, 2, ... can hang, however few run at once.
#pragma once

#include <cstdint>

#include "contract/host_device.h"

namespace blockmoe::kernels::hopper {

// Tile `tile`, K blocks [k_begin, k_end).
struct Item {
  std::int32_t tile = 0;
  std::int32_t k_begin = 0;
  std::int32_t k_end = 0;
};

struct Split {
  std::int32_t tiles = 0;
  std::int32_t k_blocks = 0;
  std::int32_t ctas = 0;
  std::int32_t cut_tiles = 0;  // tiles [0, cut_tiles) are shared out, the others dealt
  std::int32_t sharers = 0;    // CTAs [0, sharers) have a share; at least cut_tiles, so a share spans two tiles at most

  // First unit (K block, over all cut tiles) of CTA `cta`'s share, for cta = 0..sharers. Cut tiles are fewer than CTAs, so
  // that this fits 32 bits for every width and device.
  BLOCKMOE_HD std::int32_t share_begin(std::int32_t cta) const {
    return static_cast<std::int32_t>(static_cast<std::uint32_t>(cut_tiles * k_blocks) *
                                     static_cast<std::uint32_t>(cta) / static_cast<std::uint32_t>(sharers));
  }
};

// `most_pieces`: CTAs that may share one tile, at least 1. A leftover that nearly fills a wave is dealt as well: cutting it
// would cost more than the idle CTAs.
BLOCKMOE_HD Split make_split(std::int32_t tiles, std::int32_t k_blocks, std::int32_t ctas, std::int32_t most_pieces) {
  Split split;
  split.tiles = tiles;
  split.k_blocks = k_blocks;
  split.ctas = ctas;
  const std::int32_t left_over = tiles % ctas;
  if (left_over * 8 >= ctas * 7) return split;
  const std::int32_t pieces = most_pieces < k_blocks ? most_pieces : k_blocks;
  const std::int32_t wanted = left_over * pieces;
  split.cut_tiles = left_over;
  split.sharers = wanted < ctas ? wanted : ctas;
  return split;
}

// A CTA's part of the cut tiles, worked out once: looking up its items then takes no division.
struct Share {
  std::int32_t begin = 0;  // units [begin, end)
  std::int32_t end = 0;
  std::int32_t last_tile = 0;
  std::int32_t tiles = 0;              // that the units are of; 0 where the CTA has no share
  std::int32_t first_contributor = 0;  // the CTA that has the first K block of the first of them
};

BLOCKMOE_HD Share share_of(const Split& split, std::int32_t cta) {
  Share share;
  if (cta >= split.sharers) return share;
  share.begin = split.share_begin(cta);
  share.end = split.share_begin(cta + 1);
  share.last_tile = (share.end - 1) / split.k_blocks;
  const std::int32_t first_tile = share.begin / split.k_blocks;
  share.tiles = share.last_tile - first_tile + 1;
  share.first_contributor = cta;
  while (split.share_begin(share.first_contributor) > first_tile * split.k_blocks) --share.first_contributor;
  return share;
}

// The `ordinal`-th item of CTA `cta`, whose share is `share`; false when it has no more. A function of its arguments alone:
// nothing need be kept from item to item.
//
// Where the item has the end of a cut tile but not its beginning, CTAs [share.first_contributor, cta) leave sums for it.
BLOCKMOE_HD bool item_at(const Split& split, const Share& share, std::int32_t cta, std::int32_t ordinal, Item* item) {
  if (ordinal < share.tiles) {
    const std::int32_t tile = share.last_tile - ordinal;
    const std::int32_t origin = tile * split.k_blocks;
    item->tile = tile;
    item->k_begin = share.begin > origin ? share.begin - origin : 0;
    item->k_end = share.end - origin < split.k_blocks ? share.end - origin : split.k_blocks;
    return true;
  }
  item->tile = split.cut_tiles + cta + (ordinal - share.tiles) * split.ctas;
  item->k_begin = 0;
  item->k_end = split.k_blocks;
  return item->tile < split.tiles;
}

}  // namespace blockmoe::kernels::hopper
