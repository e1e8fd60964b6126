// buffers.hpp: what a call over several ranks keeps in the caller's workspace, and where. Host alone.
//
// N ranks, S slots a rank at most, K picks a token; records are kernels/expert_parallel/record.h's.
//
//   plan       the operator's own workspace, for its calls in turn
//   ids        [S, K] int32      the own tokens' picks, global numbers      weights  [S, K] f32
//   records    [S]               the own tokens
//   received   [N S]             gather: all ranks' records; exchange: [pieces, N - 1, c], the other ranks'
//   scales     [H/128, M] f32    of each call of the operator on M records    local_ids  [M, K] int32
//   parts      [N S, H] f32      what the operator made of them
//   back       [(N - 1) S, H] f32   the other ranks' parts of the own tokens: record.h's part_row()
#pragma once

#include <cstddef>
#include <cstdint>

#include "contract/geometry.h"
#include "expert_parallel/record.h"

namespace blockmoe::ep {

/// Bytes from the workspace's beginning, each a multiple of 256.
struct BufferOffsets {
  std::size_t ids = 0, weights = 0, records = 0, received = 0, scales = 0, local_ids = 0, parts = 0, back = 0;
  std::size_t bytes = 0;
};

BufferOffsets buffer_offsets(const contract::Geometry& layer, std::int32_t ranks, std::int64_t slots,
                             std::size_t plan_bytes);

/// One call of the operator within a call over several ranks.
struct OperatorCall {
  kernels::expert_parallel::Run run;
  std::int64_t first_record = 0;  // among received, scales, local_ids and parts
  bool own = false;               // on the own records, not on received ones
};

/// Call number `piece` of an exchange of S slots: the other ranks' tokens of that piece. S is a multiple of `pieces`.
OperatorCall piece_of_exchange(std::int32_t ranks, std::int32_t me, std::int64_t slots, std::int32_t pieces,
                               std::int32_t piece);
/// Its first (0) and last (1) call: one half of the own tokens. A half may have no slot.
OperatorCall own_of_exchange(std::int32_t ranks, std::int32_t me, std::int64_t slots, std::int32_t half);
/// The one call of a gather.
OperatorCall all_of_gather(std::int32_t ranks, std::int64_t slots);

inline std::int64_t round_up(std::int64_t value, std::int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

}  // namespace blockmoe::ep
