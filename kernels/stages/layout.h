// layout.h: the workspace as kernels see it: what route and pack leave for gemm1, gemm2 and combine.
//
// T' = tokens of the slab, P = local picks a token can have, L = local experts, R = rows a chunk can have,
// C = chunks a slab can have, B = ceil(T' / kTokenBlock). "Row" is one local pick of one token; a chunk's rows are
// numbered from 0 in the order (expert, token). plan/sizes.h says what slabs and chunks are.
//
// Nothing here is ever read before the same call wrote it.
#pragma once

#include <cstdint>

#include "contract/host_device.h"
#include "plan/sizes.h"

namespace blockmoe::kernels::stages {

// One chunk of the slab. Chunks that the routing does not need have no tokens and no rows.
struct Chunk {
  std::int32_t token_begin = 0;  // within the slab
  std::int32_t token_end = 0;
  std::int32_t rows = 0;      // at most R
  std::int32_t row_base = 0;  // rows of the slab's earlier chunks: where the chunk's part of row_to_token begins
};

struct Workspace {
  // By route. A token's local picks stand in pick order (b descending, expert ascending), then -1.
  std::int32_t* pick_expert = nullptr;  // [T', P] local expert, or -1
  float* pick_weight = nullptr;         // [T', P] routing weight; written where there is a pick
  std::uint8_t* block_counts =
      nullptr;  // [B, counts_pitch(L)] rows of each expert in each token block; null: nobody packs
  std::int32_t* block_rows = nullptr;  // [B] rows of each token block

  // By pack.
  Chunk* chunks = nullptr;               // [C]
  std::int32_t* expert_begin = nullptr;  // [C, L + 1] first row of each expert in its chunk; the last is chunk.rows
  std::int32_t* row_to_token = nullptr;  // [T' * P] token within the slab; a chunk's rows begin at chunk.row_base
  std::int32_t* pick_row = nullptr;      // [T', P] row within the token's chunk, or -1: the inverse of row_to_token

  // By gemm1, for one chunk at a time.
  std::uint8_t* inter = nullptr;  // [R, t, I] e4m3, t terms a value (contract/intermediate.h)
  float* inter_scale = nullptr;   // [I/128, R, t]
  // By gemm2, for one chunk at a time.
  void* rows = nullptr;                  // [R, H] f32, bf16 or fp16 (sizes.row_type), not yet weighted
  std::uint8_t* row_exponent = nullptr;  // [R, H/16] of rows in fp16 (short_rows.cuh)
};

// Bytes from one token block's counts to the next: rows of 16 bytes, so that they load as vectors.
BLOCKMOE_HD std::int64_t counts_pitch(std::int32_t local_experts) {
  return (static_cast<std::int64_t>(local_experts) + 15) / 16 * 16;
}

inline Workspace workspace_at(void* base, const plan::Offsets& offsets) {
  char* const bytes = static_cast<char*>(base);
  Workspace w;
  w.pick_expert = reinterpret_cast<std::int32_t*>(bytes + offsets.pick_expert);
  w.pick_weight = reinterpret_cast<float*>(bytes + offsets.pick_weight);
  w.block_counts = reinterpret_cast<std::uint8_t*>(bytes + offsets.block_counts);
  w.block_rows = reinterpret_cast<std::int32_t*>(bytes + offsets.block_rows);
  w.chunks = reinterpret_cast<Chunk*>(bytes + offsets.chunks);
  w.expert_begin = reinterpret_cast<std::int32_t*>(bytes + offsets.expert_begin);
  w.row_to_token = reinterpret_cast<std::int32_t*>(bytes + offsets.row_to_token);
  w.pick_row = reinterpret_cast<std::int32_t*>(bytes + offsets.pick_row);
  w.inter = reinterpret_cast<std::uint8_t*>(bytes + offsets.inter);
  w.inter_scale = reinterpret_cast<float*>(bytes + offsets.inter_scale);
  w.rows = bytes + offsets.rows;
  w.row_exponent = reinterpret_cast<std::uint8_t*>(bytes + offsets.row_exponent);
  return w;
}

}  // namespace blockmoe::kernels::stages
