// take_picks.cu: the caller's picks in place of routing: those that are on this rank, in the order in which they stand.
//
//   experts       [T', K] int32, any values      weights [T', K] f32
//   pick_expert   [T', P] out                    pick_weight [T', P] out: local picks in order, then -1
//   block_counts  [B, pitch] out                 block_rows [B] out: local picks of each token block, by expert and in all
//
// Of a pruned call the picks that contract/pruning.h drops are none.
//
// A CTA owns a token block. A token is handled by W lanes of a warp, W the smallest power of two that isn't below K: lane j
// has pick j. An expert that stands earlier in the row is skipped: so a token has no more than P = min(K, L) local picks, and
// an expert no more rows of a block than the block has tokens, which pack relies on.
//
// K id and weight loads are all on their way at once; behind them come K - 1 shuffles.
#include <cstddef>
#include <cstdint>

#include "checked.h"
#include "contract/pruning.h"
#include "launch.h"
#include "ptx/griddepcontrol.h"
#include "stages/route.cuh"
#include "stages/stages.h"
#include "trace.h"

namespace blockmoe::kernels::stages {
namespace {

constexpr int kMostThreads = plan::kTokenBlock * contract::kMaxTopK;
static_assert(contract::kMaxTopK == 32, "a token's picks fit a warp");

struct TakeParams {
  const std::int32_t* given_experts;  // [T', K]
  std::int64_t experts_pitch;         // elements from token to token
  const float* given_weights;         // [T', K]
  std::int64_t weights_pitch;
  int tokens;         // T'
  int experts;        // E
  int local_experts;  // L
  std::int32_t local_offset;
  int top_k;  // K
  int picks;  // P
  int lanes;  // W
  Workspace workspace;
  contract::Pruning pruning;
};

// The local number of an expert, or -1 where it is none of the model's or not on this rank.
__device__ std::int32_t local_of(const TakeParams& p, std::int32_t expert) {
  const bool exists = expert >= 0 && expert < p.experts;
  return exists && is_local(expert, p.local_offset, p.local_experts) ? expert - p.local_offset : -1;
}

// Whether a lane before this one, of the same token, has the same expert.
__device__ bool stands_earlier(const TakeParams& p, int lane, std::int32_t local) {
  bool found = false;
  for (int distance = 1; distance < p.top_k; ++distance) {
    const std::int32_t before = __shfl_up_sync(kAllLanes, local, static_cast<unsigned>(distance), p.lanes);
    found = found || (lane >= distance && before == local);
  }
  return found;
}

// Of a vote of all lanes of the warp the token's bits, of which bit j is lane j's.
__device__ unsigned of_token(const TakeParams& p, int lane, bool vote) {
  return (__ballot_sync(kAllLanes, vote) >> (static_cast<int>(threadIdx.x) % 32 - lane)) &
         (kAllLanes >> (32 - p.lanes));
}

// Whether the lane's pick, local or not, is a row after pruning; by all lanes of the warp.
__device__ bool is_left(const TakeParams& p, int lane, const float* weights, std::int32_t expert, bool local) {
  contract::TokenPicks picks = {weights, p.top_k, of_token(p, lane, expert >= 0 && expert < p.experts), 0};
  picks.local = of_token(p, lane, local);
  return local && contract::stays(p.pruning, picks, contract::least_magnitude(p.pruning, picks), lane);
}

template <bool kPrunes>
__global__ void __launch_bounds__(kMostThreads) take_picks(const __grid_constant__ TakeParams p) {
  ptx::griddepcontrol_launch_dependents();
  extern __shared__ __align__(16) char shared[];
  auto* const counts = reinterpret_cast<std::int32_t*>(shared);  // [L] of the token block
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread & (p.lanes - 1);
  const int token = static_cast<int>(blockIdx.x) * plan::kTokenBlock + thread / p.lanes;
  const bool token_exists = token < p.tokens;
  std::int32_t expert = -1;
  float weight = 0.0f;
  if (token_exists && lane < p.top_k) {
    expert = p.given_experts[token * p.experts_pitch + lane];
    weight = p.given_weights[token * p.weights_pitch + lane];
  }
#pragma unroll 1
  for (int e = thread; e < p.local_experts; e += static_cast<int>(blockDim.x)) counts[e] = 0;
  __syncthreads();

  const std::int32_t local = local_of(p, expert);
  const bool repeated = stands_earlier(p, lane, local);
  bool taken = local >= 0 && !repeated;
  if constexpr (kPrunes) {
    taken = is_left(p, lane, p.given_weights + token * p.weights_pitch, expert, taken);
  }
  const unsigned all_taken = of_token(p, lane, taken);
  const std::int64_t out = static_cast<std::int64_t>(token) * p.picks;
  if (taken) {
    const int slot = __popc(all_taken & ((1u << lane) - 1u));
    BLOCKMOE_CHECK(slot < p.picks && token < p.tokens);
    BLOCKMOE_CHECK(local < p.local_experts);
    p.workspace.pick_expert[out + slot] = local;
    p.workspace.pick_weight[out + slot] = weight;
    atomicAdd(&counts[local], 1);
  }
  if (token_exists && lane >= __popc(all_taken) && lane < p.picks) p.workspace.pick_expert[out + lane] = -1;
  write_counts(p.workspace, p.local_experts, counts);
}

int lanes_of(int top_k) {
  int lanes = 1;
  while (lanes < top_k) lanes *= 2;
  return lanes;
}

Error prepare(const char* name, void (*kernel)(TakeParams)) {
  return first_error([&] { return prepare_kernel(name, kernel); }, [&] { return prefer_shared_memory(name, kernel); });
}

}  // namespace

Error launch_take_picks(const Slab& slab, cudaStream_t stream) {
  const TraceRange range("take picks");
  TakeParams p = {};
  p.given_experts = slab.given_picks->experts;
  p.experts_pitch = slab.given_picks->experts_pitch;
  p.given_weights = slab.given_picks->weights;
  p.weights_pitch = slab.given_picks->weights_pitch;
  p.tokens = static_cast<int>(slab.activations.tokens);
  p.experts = slab.geometry.experts;
  p.local_experts = slab.geometry.local_experts;
  p.local_offset = slab.weights.local_expert_offset;
  p.top_k = slab.geometry.top_k;
  p.picks = slab.sizes.picks;
  p.lanes = lanes_of(p.top_k);
  p.workspace = slab.workspace;
  p.pruning = slab.pruning;
  LaunchShape shape;
  shape.grid = static_cast<unsigned>((p.tokens + plan::kTokenBlock - 1) / plan::kTokenBlock);
  shape.block = static_cast<unsigned>(plan::kTokenBlock * p.lanes);
  shape.shared_bytes = static_cast<std::size_t>(p.local_experts) * sizeof(std::int32_t);
  return launch_kernel("take_picks", p.pruning.is_on() ? take_picks<true> : take_picks<false>, shape, stream, p);
}

Error prepare_take_picks() {
  return first_error([] { return prepare("take_picks", take_picks<false>); },
                     [] { return prepare("take_picks", take_picks<true>); });
}

}  // namespace blockmoe::kernels::stages
