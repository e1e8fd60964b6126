// record.h: a token on its way to other ranks, and where the parts of a call lie. Host and device; nothing of CUDA.
//
// N ranks, S slots a rank (the call's largest T on any rank), c = S / pieces. Slot t of a rank is its token t; a slot without a
// token has no picks. Record, at a multiple of 16 bytes:
//
//   row      [H]        e4m3
//   scales   [H/128]    f32, the token's
//   ids      [K]        int32, global numbers of experts; -1 in a slot without a token
//   weights  [K]        f32
#pragma once

#include <cstdint>

#include "contract/geometry.h"
#include "contract/host_device.h"

namespace blockmoe::kernels::expert_parallel {

struct RecordLayout {
  std::int64_t hidden = 0;        // H, and where the scales begin
  std::int32_t scale_blocks = 0;  // H/128
  std::int32_t top_k = 0;         // K
  std::int64_t ids_at = 0;        // bytes
  std::int64_t weights_at = 0;
  std::int64_t bytes = 0;  // of a record, and from one to the next
};

inline RecordLayout record_layout(const contract::Geometry& g) {
  RecordLayout layout;
  layout.hidden = g.hidden;
  layout.scale_blocks = static_cast<std::int32_t>(g.hidden_blocks());
  layout.top_k = g.top_k;
  layout.ids_at = g.hidden + g.hidden_blocks() * 4;
  layout.weights_at = layout.ids_at + std::int64_t{g.top_k} * 4;
  layout.bytes = (layout.weights_at + std::int64_t{g.top_k} * 4 + 15) / 16 * 16;
  return layout;
}

// Which rank computes which expert: an expert may have several owners, in the order of their ranks. The pick of token t of rank
// s goes to owner number (s + t) mod owners, so that tokens spread over them and every rank knows who.
struct Owner {
  std::int32_t rank;
  std::int32_t slot;  // the expert's local number there
};

struct OwnerTable {
  const std::int32_t* begin = nullptr;  // [E + 1] into owners
  const Owner* owners = nullptr;
};

BLOCKMOE_HD Owner owner_of(const OwnerTable& table, std::int32_t expert, std::int64_t rank, std::int64_t token) {
  const std::int32_t first = table.begin[expert];
  const std::int32_t count = table.begin[expert + 1] - first;
  return table.owners[first + (count == 1 ? 0 : static_cast<std::int32_t>((rank + token) % count))];
}

// A run of records: `ranks` segments of `slots` records each, of the ranks from `first_rank` on but `without` (-1: none), slot 0
// being token `first_token` of its rank.
struct Run {
  std::int32_t first_rank = 0;
  std::int32_t without = -1;
  std::int64_t first_token = 0;
  std::int64_t slots = 0;
  std::int32_t ranks = 0;

  BLOCKMOE_HD std::int64_t records() const { return slots * ranks; }
  BLOCKMOE_HD std::int32_t rank_of(std::int64_t record) const {
    const std::int32_t rank = first_rank + static_cast<std::int32_t>(record / slots);
    return without >= 0 && rank >= without ? rank + 1 : rank;
  }
  BLOCKMOE_HD std::int64_t token_of(std::int64_t record) const { return first_token + record % slots; }
};

// Where rank r's part of token t lies among the parts that came back, in rows: [pieces, N - 1, c], r's place being that among
// the other ranks.
BLOCKMOE_HD std::int64_t part_row(std::int64_t token, std::int32_t rank, std::int32_t me, std::int32_t ranks,
                                  std::int64_t piece_slots) {
  const std::int64_t place = rank < me ? rank : rank - 1;
  return (token / piece_slots * (ranks - 1) + place) * piece_slots + token % piece_slots;
}

}  // namespace blockmoe::kernels::expert_parallel
