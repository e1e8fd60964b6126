// route_grouped.cu: route for DeepSeek-V3's grouping: 256 experts in 8 groups of 32, 4 groups kept, 8 picks. The same bits
// as route.cu, in fewer instructions, since almost no sigmoid has to be exact.
//
//   logits        [T', 256] f32 or bf16, readable by four      bias [256] bf16 or f32, or absent
//   pick_expert   [T', P] out         pick_weight [T', P] out: local picks in pick order, then -1
//   route_grouped:   block_counts [B, pitch], block_rows [B] out
//   route_and_pack:  chunks [1], expert_begin [1, L + 1], row_to_token [T' P], pick_row [T', P] out
//
// A token's picks: choose_grouped.cuh, by W lanes of a warp. Calls that prune (contract/pruning.h) have kernels of their own, so
// that the others pay nothing for it.
//
// route_grouped: W = 8; a CTA owns a token block, a warp 4 of its tokens. 47 KB of shared memory and 64 registers a thread:
// four CTAs an SM, so that on 128 SMs and more a whole slab (512 blocks) is one wave, all logits on their way at once. About
// 230 warp instructions a token.
// route_and_pack: one CTA has all tokens, a warp 32 / W of them, and orders the rows itself. That saves a launch and what
// the two kernels tell each other through memory, which is more than spreading few tokens over more SMs gains.
#include <cstddef>
#include <cstdint>

#include <cuda_bf16.h>

#include "checked.h"
#include "launch.h"
#include "ptx/griddepcontrol.h"
#include "stages/choose_grouped.cuh"
#include "stages/route_grouped.h"
#include "trace.h"

namespace blockmoe::kernels::stages {
namespace {

constexpr int kThreads = 256;        // of route_grouped
constexpr int kCtasAnSm = 4;         // of route_grouped
constexpr int kMostTokens = 128;     // of route_and_pack: a pass of a whole CTA with eight lanes a token
constexpr int kMostWideTokens = 16;  // of route_and_pack with a warp a token: four warps for each of an SM's schedulers
static_assert(kThreads >= kExperts, "a thread brings at most one bias");

constexpr int kRouteLanes = 8;  // of route_grouped: 8 warps have a token block

template <typename Logit, bool kPrunes>
__global__ void __launch_bounds__(kThreads, kCtasAnSm) route_grouped(const __grid_constant__ GroupedParams p) {
  ptx::griddepcontrol_launch_dependents();
  const GroupedMemory memory(shared_memory(), plan::kTokenBlock);
  auto* const counts = reinterpret_cast<std::int32_t*>(memory.of_local);  // [L]
#pragma unroll 1
  for (int e = static_cast<int>(threadIdx.x); e < p.local_experts; e += kThreads) counts[e] = 0;
  const Place<kRouteLanes> place(static_cast<int>(blockIdx.x) * plan::kTokenBlock);
  const Pick pick = route_token<kRouteLanes, Logit, kPrunes>(p, place, memory);
  if (pick.local_expert >= 0) atomicAdd(&counts[pick.local_expert], 1);
  write_counts(p.workspace, p.local_experts, counts);
}

constexpr int kTokenWords = kMostTokens / 32;

// What route_and_pack counts local experts with.
struct LocalExpert {
  std::uint32_t tokens[kTokenWords];  // bit t % 32 of word t / 32: token t picked the expert
  std::int32_t begin;                 // its first row

  __device__ int rows_before(int token) const {
    int rows = 0;
#pragma unroll
    for (int w = 0; w < kTokenWords; ++w) {
      const std::uint32_t earlier = w * 32 + 31 < token ? 0xffffffffu : w * 32 < token ? (1u << token % 32) - 1u : 0u;
      rows += __popc(tokens[w] & earlier);
    }
    return rows;
  }
};

// begin of each local expert and the chunk, by one warp.
__device__ void order_experts(const GroupedParams& p, LocalExpert* experts) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  int before = 0;
#pragma unroll 1
  for (int base = 0; base < p.local_experts; base += 32) {
    const int e = base + lane;
    const int mine = e < p.local_experts ? experts[e].rows_before(kMostTokens) : 0;
    const int end = before + inclusive_sum(Place<32>(0), mine);
    if (e < p.local_experts) {
      experts[e].begin = end - mine;
      p.workspace.expert_begin[e] = end - mine;
    }
    before = __shfl_sync(kAllLanes, end, 31);
  }
  if (lane == 0) {
    p.workspace.expert_begin[p.local_experts] = before;
    p.workspace.chunks[0] = {0, p.tokens, before, 0};
  }
}

template <int kLanes, typename Logit, bool kPrunes>
__global__ void __launch_bounds__(kLanes*(kLanes == 32 ? kMostWideTokens : kMostTokens))
    route_and_pack(const __grid_constant__ GroupedParams p) {
  ptx::griddepcontrol_launch_dependents();
  const int threads = static_cast<int>(blockDim.x);
  const int thread = static_cast<int>(threadIdx.x);
  const GroupedMemory memory(shared_memory(), threads / kLanes);
  auto* const experts = reinterpret_cast<LocalExpert*>(memory.of_local);  // [L]
#pragma unroll 1
  for (int e = thread; e < p.local_experts; e += threads) experts[e] = {};
  const Place<kLanes> place(0);
  const Pick pick = route_token<kLanes, Logit, kPrunes>(p, place, memory);
  if (pick.local_expert >= 0) {
    atomicOr(&experts[pick.local_expert].tokens[place.token / 32], 1u << place.token % 32);
  }
#pragma unroll 1
  for (int i = thread; i < p.counter_words; i += threads) p.counters[i] = 0;
  __syncthreads();
  if (thread < 32) order_experts(p, experts);
  __syncthreads();

  const std::int64_t out = static_cast<std::int64_t>(place.token) * p.picks;
  if (pick.local_expert >= 0) {
    const LocalExpert& expert = experts[pick.local_expert];
    const std::int32_t row = expert.begin + expert.rows_before(place.token);
    p.workspace.row_to_token[row] = place.token;
    p.workspace.pick_row[out + pick.slot] = row;
  }
  if (pick.empty) p.workspace.pick_row[out + place.lane] = -1;
}

GroupedParams params_of(const Slab& slab) {
  const contract::Activations& a = slab.activations;
  GroupedParams p = {};
  p.logits = a.routing_logits;
  p.pitch = static_cast<std::int32_t>(a.routing_logits_pitch);
  p.bias = slab.weights.routing_bias;
  p.bias_type = slab.weights.routing_bias_type;
  p.tokens = static_cast<int>(a.tokens);
  p.local_experts = slab.geometry.local_experts;
  p.local_offset = slab.weights.local_expert_offset;
  p.factor = slab.weights.routed_scaling_factor;
  p.picks = slab.sizes.picks;
  p.counters = slab.counters;
  p.counter_words = slab.counter_words;
  p.workspace = slab.workspace;
  p.pruning = slab.pruning;
  return p;
}

std::size_t route_bytes(int local_experts) {
  return GroupedMemory::bytes(plan::kTokenBlock, static_cast<std::size_t>(local_experts) * sizeof(std::int32_t));
}

// Lanes a token of route_and_pack. While the SM's schedulers have issue slots to spare, the chain of a token's instructions
// is all that counts, and with a whole warp it is the shortest.
int lanes_of(std::int64_t tokens) {
  return tokens <= kMostWideTokens ? 32 : 8;
}

// At least as many as there are experts, each of whose bias takes a thread.
int threads_of(std::int64_t tokens) {
  const int warps = static_cast<int>((tokens * lanes_of(tokens) + 31) / 32);
  return warps * 32 < kExperts ? kExperts : warps * 32;
}

std::size_t route_and_pack_bytes(std::int64_t tokens, int local_experts) {
  return GroupedMemory::bytes(threads_of(tokens) / lanes_of(tokens),
                              static_cast<std::size_t>(local_experts) * sizeof(LocalExpert));
}

using Kernel = void (*)(GroupedParams);

template <typename Logit>
Kernel route_grouped_for(const Slab& slab) {
  return slab.pruning.is_on() ? route_grouped<Logit, true> : route_grouped<Logit, false>;
}

template <typename Logit, bool kPrunes>
Kernel route_and_pack_of(std::int64_t tokens) {
  return lanes_of(tokens) == 32 ? route_and_pack<32, Logit, kPrunes> : route_and_pack<8, Logit, kPrunes>;
}

template <typename Logit>
Kernel route_and_pack_for(const Slab& slab) {
  const std::int64_t tokens = slab.activations.tokens;
  return slab.pruning.is_on() ? route_and_pack_of<Logit, true>(tokens) : route_and_pack_of<Logit, false>(tokens);
}

Error prepare_one(const char* name, Kernel kernel) {
  return first_error([&] { return prepare_for_any_shared_memory(name, kernel); },
                     [&] { return prefer_shared_memory(name, kernel); });
}

template <typename Logit, bool kPrunes>
Error prepare_all() {
  return first_error([] { return prepare_one("route_grouped", route_grouped<Logit, kPrunes>); },
                     [] { return prepare_one("route_and_pack", route_and_pack<32, Logit, kPrunes>); },
                     [] { return prepare_one("route_and_pack", route_and_pack<8, Logit, kPrunes>); });
}

}  // namespace

bool is_grouped(const contract::Geometry& g) {
  return g.experts == kExperts && g.n_group == kGroups && g.topk_group == kGroupsKept && g.top_k == kTopK;
}

bool is_grouped(const Slab& slab) {
  const contract::Activations& a = slab.activations;
  return is_grouped(slab.geometry) && a.routing_logits_pitch <= std::numeric_limits<std::int32_t>::max() &&
         readable_by_four(a.routing_logits, a.routing_logits_type, a.routing_logits_pitch);
}

Error launch_route_grouped(const Slab& slab, cudaStream_t stream) {
  LaunchShape shape;
  shape.grid = static_cast<unsigned>((slab.activations.tokens + plan::kTokenBlock - 1) / plan::kTokenBlock);
  shape.block = kThreads;
  shape.shared_bytes = route_bytes(slab.geometry.local_experts);
  const bool f32 = slab.activations.routing_logits_type == contract::FloatType::f32;
  const Kernel kernel = f32 ? route_grouped_for<float>(slab) : route_grouped_for<__nv_bfloat16>(slab);
  return launch_kernel("route_grouped", kernel, shape, stream, params_of(slab));
}

bool fits_one_cta(const Slab& slab) {
  const std::int64_t tokens = slab.activations.tokens;
  return tokens <= kMostTokens && slab.sizes.max_chunks == 1 &&
         route_and_pack_bytes(tokens, slab.geometry.local_experts) <= static_cast<std::size_t>(slab.shared_memory);
}

Error launch_route_and_pack(const Slab& slab, cudaStream_t stream) {
  const TraceRange range("route and pack");
  const std::int64_t tokens = slab.activations.tokens;
  LaunchShape shape;
  shape.block = static_cast<unsigned>(threads_of(tokens));
  shape.shared_bytes = route_and_pack_bytes(tokens, slab.geometry.local_experts);
  const bool f32 = slab.activations.routing_logits_type == contract::FloatType::f32;
  const Kernel kernel = f32 ? route_and_pack_for<float>(slab) : route_and_pack_for<__nv_bfloat16>(slab);
  return launch_kernel("route_and_pack", kernel, shape, stream, params_of(slab));
}

Error prepare_route_grouped() {
  return first_error([] { return prepare_all<float, false>(); }, [] { return prepare_all<__nv_bfloat16, false>(); },
                     [] { return prepare_all<float, true>(); }, [] { return prepare_all<__nv_bfloat16, true>(); });
}

}  // namespace blockmoe::kernels::stages
