// gather.cu: a token's activations, copied to the row of each of its local picks.
//
//   hidden        [T', H]     e4m3, a pitch      hidden_scale [H/128, T'] f32, a pitch
//   pick_expert, pick_row [T', P], expert_begin [L + 1], row_begin [L + 1]
//   gathered      [R', H]     e4m3 out           gathered_scale [H/128, begin[L]] f32 out
//   padded_row    [T', P]     out: pick_row in the order of row_begin, or -1
//
// Row r of expert e, counted within the chunk as pack does, becomes row_begin[e] + (r - expert_begin[e]). A CTA takes a token, reads
// its row once and writes it as often as it was picked; tokens without a local pick are not read.
#include <cstdint>

#include "blackwell/gather.h"
#include "checked.h"
#include "launch.h"
#include "trace.h"

namespace blockmoe::kernels::blackwell {
namespace {

constexpr int kThreads = 256;
constexpr int kCtasAnSm = 4;
constexpr int kBytesAVector = 16;
constexpr unsigned kAllLanes = 0xffffffffu;

static_assert(contract::kMaxTopK <= 32, "a lane a pick");

struct GatherParams {
  int hidden;   // H
  int experts;  // L
  int picks;    // P
  int tokens;   // T'
  std::int64_t row_capacity;
  const stages::Chunk* chunk;
  const std::int32_t* pick_expert;
  const std::int32_t* pick_row;
  const std::int32_t* expert_begin;
  const std::int32_t* row_begin;
  const std::int32_t* scale_pitch;  // of gathered_scale
  const std::uint8_t* from;
  std::int64_t from_pitch;
  const float* from_scale;
  std::int64_t from_scale_pitch;
  std::uint8_t* gathered;
  float* gathered_scale;
  std::int32_t* padded_row;
};

__device__ std::int32_t padded_row_of(const GatherParams& p, std::int64_t slot) {
  const std::int32_t row = p.pick_row[slot];
  if (row < 0) return -1;
  const std::int32_t expert = p.pick_expert[slot];
  BLOCKMOE_CHECK(expert >= 0 && expert < p.experts);
  const std::int32_t padded = p.row_begin[expert] + row - p.expert_begin[expert];
  BLOCKMOE_CHECK(padded >= p.row_begin[expert] && padded < p.row_capacity);
  return padded;
}

__global__ void __launch_bounds__(kThreads) gather(const __grid_constant__ GatherParams p) {
  const stages::Chunk chunk = *p.chunk;
  const std::int64_t scale_pitch = *p.scale_pitch;
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % 32;
  for (int token = chunk.token_begin + static_cast<int>(blockIdx.x); token < chunk.token_end;
       token += static_cast<int>(gridDim.x)) {
    BLOCKMOE_CHECK(token >= 0 && token < p.tokens);
    // Lane i of each warp has pick i; a token's picks come first, then -1.
    const std::int64_t slot = static_cast<std::int64_t>(token) * p.picks + lane;
    const std::int32_t row = lane < p.picks ? padded_row_of(p, slot) : -1;
    if (thread < p.picks) p.padded_row[slot] = row;
    const int picks = __popc(__ballot_sync(kAllLanes, row >= 0));
    if (picks == 0) continue;
    const std::uint8_t* const from = p.from + token * p.from_pitch;
    const int vectors = p.hidden / kBytesAVector;
    const int blocks = p.hidden / static_cast<int>(contract::kScaleBlock);
    for (int first = 0; first < vectors; first += kThreads) {
      const int v = first + thread;
      uint4 bytes = {};
      float scale = 0.0f;
      if (v < vectors) bytes = *reinterpret_cast<const uint4*>(from + v * kBytesAVector);
      if (v < blocks) scale = p.from_scale[v * p.from_scale_pitch + token];
      for (int i = 0; i < picks; ++i) {
        const std::int64_t to = __shfl_sync(kAllLanes, row, i);
        if (v < vectors) *reinterpret_cast<uint4*>(p.gathered + to * p.hidden + v * kBytesAVector) = bytes;
        if (v < blocks) p.gathered_scale[v * scale_pitch + to] = scale;
      }
    }
  }
}

}  // namespace

Error launch_gather(const stages::Slab& slab, std::int32_t chunk, const Workspace& workspace, std::int64_t row_capacity,
                    cudaStream_t stream) {
  const TraceRange range("gather");
  const contract::Activations& a = slab.activations;
  const auto gemm1 = static_cast<std::size_t>(plan::Product::gemm1);
  GatherParams p = {};
  p.hidden = static_cast<int>(slab.geometry.hidden);
  p.experts = slab.geometry.local_experts;
  p.picks = slab.sizes.picks;
  p.tokens = static_cast<int>(a.tokens);
  p.row_capacity = row_capacity;
  p.chunk = slab.workspace.chunks + chunk;
  p.pick_expert = slab.workspace.pick_expert;
  p.pick_row = slab.workspace.pick_row;
  p.expert_begin = slab.workspace.expert_begin + static_cast<std::int64_t>(chunk) * (p.experts + 1);
  p.row_begin = workspace.row_begin;
  p.scale_pitch = workspace.tables[gemm1].scale_pitch;
  p.from = a.hidden;
  p.from_pitch = a.hidden_pitch;
  p.from_scale = a.hidden_scale;
  p.from_scale_pitch = a.hidden_scale_pitch;
  p.gathered = workspace.hidden;
  p.gathered_scale = workspace.hidden_scale;
  p.padded_row = workspace.pick_row;
  const std::int64_t most = static_cast<std::int64_t>(slab.sms) * kCtasAnSm;
  LaunchShape shape;
  shape.grid = static_cast<unsigned>(a.tokens < most ? a.tokens : most);
  shape.block = kThreads;
  return launch_kernel("gather", gather, shape, stream, p);
}

Error prepare_gather() {
  return prepare_kernel("gather", gather);
}

}  // namespace blockmoe::kernels::blackwell
