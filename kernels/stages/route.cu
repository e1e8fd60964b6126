// route.cu: which experts a token picks, and with what weight; then what of it is local.
//
//   logits        [T', E] f32 or bf16      bias [E] bf16 or f32, or absent
//   pick_expert   [T', P] out              pick_weight [T', P] out: local picks in pick order, then -1
//   block_counts  [B, pitch] out           block_rows [B] out: local picks of each token block, by expert and in all
//
// A CTA owns a token block. A token is handled by W lanes of a warp, W the power of two with 32 W >= E: a lane owns 32
// consecutive experts, a warp 32 / W tokens. (DeepSeek-V3: W = 8, a lane is a group of experts, a warp has 4 tokens.)
// The arithmetic and the tie rules are contract/routing.h's, and contract/pruning.h's in the kernels of calls that prune.
//
// Choosing top_k of the experts left after the choice of groups:
//   threshold  the top_k-th largest of all lanes' two best scores: at least top_k candidates reach it, few more do
//   compact    the candidates that reach it go to a list of keys in shared memory
//   rank       a candidate's place is the number of larger keys in the list; keys are unique, so places are too
//
// Cost for DeepSeek-V3: about 360 warp instructions a token, half of them sigmoids.
#include <cfloat>
#include <cstddef>
#include <cstdint>

#include "checked.h"
#include "contract/e4m3.h"
#include "contract/pruning.h"
#include "contract/routing.h"
#include "launch.h"
#include "ptx/griddepcontrol.h"
#include "stages/route.cuh"
#include "stages/route_grouped.h"
#include "stages/sigmoid.cuh"
#include "stages/stages.h"
#include "trace.h"

namespace blockmoe::kernels::stages {
namespace {

constexpr int kExpertsALane = 32;
constexpr int kRowPitch = 36;   // floats from one lane's 32 scores to the next: 8 lanes' LDS.128 lie in different banks
constexpr int kKeysALane = 33;  // keys from one lane's share of the list to the next: so that tokens' lists do, too

struct RouteParams {
  const void* logits;  // [T', E]
  std::int64_t pitch;  // elements from token to token
  bool vectors;        // four logits may be read at once
  const void* bias;    // [E] or null
  contract::FloatType bias_type;
  int tokens;         // T'
  int experts;        // E
  int local_experts;  // L
  std::int32_t local_offset;
  float factor;
  int top_k;
  int picks;  // P
  int groups;
  int groups_kept;
  int lanes;  // W
  int lanes_log2;
  bool groups_are_lanes;  // a group is a power of two of whole lanes
  Workspace workspace;
  contract::Pruning pruning;
};

// Shared memory, in this order; sizes follow from the launch.
struct RouteMemory {
  std::uint64_t* keys;  // [threads, kKeysALane] a token's candidates, its lanes' shares as one list; before that the
                        // lanes' rows of kRowPitch floats
  float* bias;          // [W, kRowPitch]
  float* pick_score;    // [tokens a pass, top_k] s of the picks
  std::int32_t* pick_expert;  // [tokens a pass, top_k]
  std::int32_t* counts;       // [L]
  float* group_score;         // [tokens a pass, groups], unless groups are lanes
  std::int32_t* group_kept;   // [tokens a pass, groups], unless groups are lanes

  static std::size_t bytes(const RouteParams& p, int threads) {
    const std::size_t tokens = static_cast<std::size_t>(threads / p.lanes);
    const std::size_t grouping = p.groups_are_lanes ? 0 : tokens * static_cast<std::size_t>(p.groups) * 8;
    return static_cast<std::size_t>(threads) * kKeysALane * 8 + static_cast<std::size_t>(p.lanes) * kRowPitch * 4 +
           tokens * static_cast<std::size_t>(p.top_k) * 8 + static_cast<std::size_t>(p.local_experts) * 4 + grouping;
  }

  __device__ RouteMemory(char* base, const RouteParams& p, int threads) {
    const int tokens = threads / p.lanes;
    keys = reinterpret_cast<std::uint64_t*>(base);
    bias = reinterpret_cast<float*>(keys + threads * kKeysALane);
    pick_score = bias + p.lanes * kRowPitch;
    pick_expert = reinterpret_cast<std::int32_t*>(pick_score + tokens * p.top_k);
    counts = pick_expert + tokens * p.top_k;
    group_score = reinterpret_cast<float*>(counts + p.local_experts);
    group_kept = reinterpret_cast<std::int32_t*>(group_score + tokens * p.groups);
  }
};

// One lane's place: `lane` of its token's W, whose first one is `first` in the warp.
struct Place {
  int lane;
  int lanes;
  int first;
  int token;   // within the slab; may be past the last
  int slot;    // of the token among those of the CTA's pass
  bool valid;  // the token exists
};

template <typename Logit>
__device__ float4 load_logits(const RouteParams& p, int token, int expert) {
  float4 four = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  if (token >= p.tokens || expert >= p.experts) return four;
  const Logit* const at = static_cast<const Logit*>(p.logits) + token * p.pitch + expert;
  if (p.vectors) return load_four(at);
  four.x = to_float(at[0]);
  if (expert + 1 < p.experts) four.y = to_float(at[1]);
  if (expert + 2 < p.experts) four.z = to_float(at[2]);
  if (expert + 3 < p.experts) four.w = to_float(at[3]);
  return four;
}

// The warp's tokens' logits into the lanes' rows; expert e of a token stands in row e / 32 of its W. Experts and tokens
// that don't exist become 0.
template <typename Logit>
__device__ void fill_rows(const RouteParams& p, int first_token, float* rows) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  float4 four[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const int vector = i * 32 + lane;  // of the warp's 32 rows of 8
    const int row = vector / 8;
    const int token = first_token + (row >> p.lanes_log2);
    four[i] = load_logits<Logit>(p, token, (row & (p.lanes - 1)) * kExpertsALane + vector % 8 * 4);
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const int vector = i * 32 + lane;
    *reinterpret_cast<float4*>(rows + vector / 8 * kRowPitch + vector % 8 * 4) = four[i];
  }
  __syncwarp();
}

// b of the lane's 32 experts; -Inf for those that don't exist. `short_bias`: no bias is NaN or huge.
__device__ void choice_scores(const RouteParams& p, const Place& place, const float* row, const float* bias,
                              bool short_bias, float (&b)[kExpertsALane]) {
  bool in_range = short_bias;
#pragma unroll
  for (int i = 0; i < kExpertsALane; i += 4) {
    const float4 x = *reinterpret_cast<const float4*>(row + i);
    b[i] = x.x, b[i + 1] = x.y, b[i + 2] = x.z, b[i + 3] = x.w;
  }
#pragma unroll
  for (int i = 0; i < kExpertsALane; ++i) in_range = in_range && short_sigmoid_holds(b[i]);
  const float* const lane_bias = bias + place.lane * kRowPitch;
  if (__all_sync(kAllLanes, in_range)) {
    // s is positive and s + bias finite: none of choice_score()'s corrections applies.
#pragma unroll
    for (int i = 0; i < kExpertsALane; i += 4) {
      const float4 add = *reinterpret_cast<const float4*>(lane_bias + i);
      b[i] = __fadd_rn(short_sigmoid(b[i]), add.x);
      b[i + 1] = __fadd_rn(short_sigmoid(b[i + 1]), add.y);
      b[i + 2] = __fadd_rn(short_sigmoid(b[i + 2]), add.z);
      b[i + 3] = __fadd_rn(short_sigmoid(b[i + 3]), add.w);
    }
  } else {
#pragma unroll
    for (int i = 0; i < kExpertsALane; ++i) b[i] = contract::choice_score(contract::sigmoid(b[i]), lane_bias[i]);
  }
  if (p.experts != p.lanes * kExpertsALane) {
#pragma unroll
    for (int i = 0; i < kExpertsALane; ++i) {
      if (place.lane * kExpertsALane + i >= p.experts) b[i] = -INFINITY;
    }
  }
}

__device__ TopTwo top_two_of(const float (&b)[kExpertsALane]) {
  TopTwo top;
#pragma unroll
  for (int i = 0; i < kExpertsALane; ++i) top.add(b[i]);
  return top;
}

// Whether the lane's group is kept, where a group is a power of two of lanes.
__device__ bool lane_is_kept(const RouteParams& p, const Place& place, TopTwo top) {
  const int lanes_a_group = p.experts / p.groups / kExpertsALane;
  for (int distance = 1; distance < lanes_a_group; distance *= 2) {
    TopTwo other;
    other.best = __shfl_xor_sync(kAllLanes, top.best, distance);
    other.second = __shfl_xor_sync(kAllLanes, top.second, distance);
    top.add(other);
  }
  const float score = contract::group_score(top.best, top.second);
  const int group = place.lane / lanes_a_group;
  int better = 0;
  for (int g = 0; g < p.groups; ++g) {
    const float other = __shfl_sync(kAllLanes, score, place.first + g * lanes_a_group);
    better += other > score || (other == score && g < group);
  }
  return better < p.groups_kept;
}

// The same for any grouping, through shared memory: b of experts in dropped groups becomes -Inf.
__device__ void drop_groups(const RouteParams& p, const Place& place, float* row, const float* token_rows, float* score,
                            std::int32_t* kept, float (&b)[kExpertsALane]) {
#pragma unroll
  for (int i = 0; i < kExpertsALane; ++i) row[i] = b[i];
  __syncwarp();
  const int size = p.experts / p.groups;
  for (int g = place.lane; g < p.groups; g += place.lanes) {
    TopTwo top;
    for (int e = g * size; e < (g + 1) * size; ++e) {
      top.add(token_rows[e / kExpertsALane * kRowPitch + e % kExpertsALane]);
    }
    score[g] = contract::group_score(top.best, size == 1 ? 0.0f : top.second);
  }
  __syncwarp();
  for (int g = place.lane; g < p.groups; g += place.lanes) {
    int better = 0;
    for (int other = 0; other < p.groups; ++other) {
      better += score[other] > score[g] || (score[other] == score[g] && other < g);
    }
    kept[g] = better < p.groups_kept;
  }
  __syncwarp();
#pragma unroll
  for (int i = 0; i < kExpertsALane; ++i) {
    const int e = place.lane * kExpertsALane + i;
    if (e < p.experts && kept[e / size] == 0) b[i] = -INFINITY;
  }
}

// The top_k-th largest of the lanes' best and second-best scores, or the smallest score there is where they are fewer.
__device__ float threshold_of(const RouteParams& p, const Place& place, const TopTwo& top) {
  int reach_best = 0;  // scores that are at least `best`
  int reach_second = 0;
  for (int other = 0; other < place.lanes; ++other) {
    const float best = __shfl_sync(kAllLanes, top.best, place.first + other);
    const float second = __shfl_sync(kAllLanes, top.second, place.first + other);
    reach_best += static_cast<int>(best >= top.best) + static_cast<int>(second >= top.best);
    reach_second += static_cast<int>(best >= top.second) + static_cast<int>(second >= top.second);
  }
  float threshold = reach_best >= p.top_k ? top.best : reach_second >= p.top_k ? top.second : -FLT_MAX;
  for (int distance = 1; distance < place.lanes; distance *= 2) {
    threshold = fmaxf(threshold, __shfl_xor_sync(kAllLanes, threshold, distance));
  }
  return fmaxf(threshold, -FLT_MAX);
}

// The token's candidates as keys in `list`, by all of its lanes; returns how many.
__device__ int compact(const Place& place, const float (&b)[kExpertsALane], float threshold, std::uint64_t* list) {
  int mine = 0;
#pragma unroll
  for (int i = 0; i < kExpertsALane; ++i) mine += static_cast<int>(b[i] >= threshold);
  int end = mine;
  for (int distance = 1; distance < place.lanes; distance *= 2) {
    const int before = __shfl_up_sync(kAllLanes, end, static_cast<unsigned>(distance), place.lanes);
    if (place.lane >= distance) end += before;
  }
  const int total = __shfl_sync(kAllLanes, end, place.first + place.lanes - 1);
  BLOCKMOE_CHECK(total <= place.lanes * kExpertsALane && total >= 0);
  std::uint64_t* next = list + (end - mine);
#pragma unroll
  for (int i = 0; i < kExpertsALane; ++i) {
    if (b[i] >= threshold) {
      *next++ = contract::choice_key(b[i], static_cast<std::uint32_t>(place.lane * kExpertsALane + i));
    }
  }
  __syncwarp();
  return total;
}

// pick_expert[place] for the top_k largest keys of the list.
__device__ void rank(const RouteParams& p, const Place& place, const std::uint64_t* list, int total,
                     std::int32_t* pick_expert) {
  for (int c = place.lane; c < total; c += place.lanes) {
    const std::uint64_t key = list[c];
    int larger = 0;
#pragma unroll 4
    for (int other = 0; other < total; ++other) larger += static_cast<int>(list[other] > key);
    if (larger < p.top_k) pick_expert[larger] = static_cast<std::int32_t>(contract::number_of_key(key));
  }
  __syncwarp();
}

template <typename Logit>
__device__ float logit_of(const RouteParams& p, int token, int expert) {
  BLOCKMOE_CHECK(expert >= 0 && expert < p.experts);
  return to_float(static_cast<const Logit*>(p.logits)[token * p.pitch + expert]);
}

__device__ bool is_local(const RouteParams& p, std::int32_t expert) {
  return stages::is_local(expert, p.local_offset, p.local_experts);
}

// s of the picks becomes their weight, by all lanes of the warp.
__device__ void weigh(const RouteParams& p, const Place& place, float* score) {
  float sum = 0.0f;
  for (int j = 0; j < p.top_k; ++j) sum = contract::rn::add(sum, score[j]);
  __syncwarp();
  for (int j = place.lane; j < p.top_k; j += place.lanes) score[j] = contract::routing_weight(score[j], sum, p.factor);
  __syncwarp();
}

// The local picks that pruning leaves, as bits.
__device__ std::uint32_t kept_picks(const RouteParams& p, const std::int32_t* expert, const float* weight) {
  std::uint32_t local = 0;
  for (int j = 0; j < p.top_k; ++j) local |= static_cast<std::uint32_t>(is_local(p, expert[j])) << j;
  return contract::kept_picks(p.pruning, {weight, p.top_k, ~0u, local});
}

// Weights of the picks, and the local ones into the workspace and the counts.
template <typename Logit, bool kPrunes>
__device__ void finish(const RouteParams& p, const Place& place, const std::int32_t* expert, float* score,
                       std::int32_t* counts) {
  for (int j = place.lane; j < p.top_k; j += place.lanes) {
    const float s = place.valid ? sigmoid(logit_of<Logit>(p, place.token, expert[j])) : 0.0f;
    score[j] = s != s ? 0.0f : s;
  }
  __syncwarp();
  if constexpr (kPrunes) weigh(p, place, score);
  if (!place.valid) return;
  [[maybe_unused]] std::uint32_t kept = 0;
  if constexpr (kPrunes) kept = kept_picks(p, expert, score);
  const auto is_row = [&](int j) {
    if constexpr (kPrunes) return contract::is_in(kept, j);
    return is_local(p, expert[j]);
  };
  float sum = 0.0f;
  int local = 0;
  for (int j = 0; j < p.top_k; ++j) {
    sum = contract::rn::add(sum, score[j]);
    local += static_cast<int>(is_row(j));
  }
  const std::int64_t out = static_cast<std::int64_t>(place.token) * p.picks;
  for (int j = place.lane; j < p.top_k; j += place.lanes) {
    if (!is_row(j)) continue;
    int before = 0;
    for (int other = 0; other < j; ++other) before += static_cast<int>(is_row(other));
    BLOCKMOE_CHECK(before < p.picks && place.token < p.tokens);
    const std::int32_t number = expert[j] - p.local_offset;
    BLOCKMOE_CHECK(number >= 0 && number < p.local_experts);
    p.workspace.pick_expert[out + before] = number;
    p.workspace.pick_weight[out + before] = kPrunes ? score[j] : contract::routing_weight(score[j], sum, p.factor);
    atomicAdd(&counts[number], 1);
  }
  for (int j = local + place.lane; j < p.picks; j += place.lanes) p.workspace.pick_expert[out + j] = -1;
}

// Bias rows and cleared counts, by all threads; returns whether short_bias (choice_scores) holds.
__device__ bool prepare(const RouteParams& p, const RouteMemory& memory) {
  constexpr float kLargest = 1e30f;
  bool holds = true;
  for (int e = static_cast<int>(threadIdx.x); e < p.lanes * kExpertsALane; e += static_cast<int>(blockDim.x)) {
    const float bias = e < p.experts ? bias_of(p.bias, p.bias_type, e) : 0.0f;
    holds = holds && fabsf(bias) <= kLargest;
    memory.bias[e / kExpertsALane * kRowPitch + e % kExpertsALane] = bias;
  }
  for (int e = static_cast<int>(threadIdx.x); e < p.local_experts; e += static_cast<int>(blockDim.x)) {
    memory.counts[e] = 0;
  }
  return __syncthreads_and(holds) != 0;
}

template <typename Logit, bool kPrunes>
__global__ void __launch_bounds__(256, 2) route(const __grid_constant__ RouteParams p) {
  ptx::griddepcontrol_launch_dependents();
  extern __shared__ __align__(16) char shared[];
  const int threads = static_cast<int>(blockDim.x);
  const int thread = static_cast<int>(threadIdx.x);
  const RouteMemory memory(shared, p, threads);
  const bool short_bias = prepare(p, memory);
  std::uint64_t* const warp_keys = memory.keys + thread / 32 * 32 * kKeysALane;
  float* const warp_rows = reinterpret_cast<float*>(warp_keys);

  const int tokens_a_pass = threads / p.lanes;
  for (int pass = 0; pass < plan::kTokenBlock; pass += tokens_a_pass) {
    Place place;
    place.lane = thread & (p.lanes - 1);
    place.lanes = p.lanes;
    place.first = thread % 32 - place.lane;
    place.slot = thread >> p.lanes_log2;
    place.token = static_cast<int>(blockIdx.x) * plan::kTokenBlock + pass + place.slot;
    place.valid = place.token < p.tokens;

    fill_rows<Logit>(p, place.token - (place.first >> p.lanes_log2), warp_rows);
    float b[kExpertsALane];
    float* const token_rows = warp_rows + place.first * kRowPitch;
    float* const row = token_rows + place.lane * kRowPitch;
    choice_scores(p, place, row, memory.bias, short_bias, b);
    if (p.groups_kept < p.groups && !p.groups_are_lanes) {
      drop_groups(p, place, row, token_rows, memory.group_score + place.slot * p.groups,
                  memory.group_kept + place.slot * p.groups, b);
    }
    TopTwo top = top_two_of(b);
    if (p.groups_kept < p.groups && p.groups_are_lanes && !lane_is_kept(p, place, top)) {
      top = TopTwo();
#pragma unroll
      for (int i = 0; i < kExpertsALane; ++i) b[i] = -INFINITY;
    }
    // Beyond the last token all scores are alike: nothing reaches infinity, so that no list of ties is ranked for nobody.
    const float reached = threshold_of(p, place, top);
    const float threshold = place.valid ? reached : INFINITY;
    __syncwarp();  // all rows of the warp have been read: the lists may take their place
    std::uint64_t* const list = warp_keys + place.first * kKeysALane;
    const int total = compact(place, b, threshold, list);
    std::int32_t* const experts = memory.pick_expert + place.slot * p.top_k;
    rank(p, place, list, total, experts);
    finish<Logit, kPrunes>(p, place, experts, memory.pick_score + place.slot * p.top_k, memory.counts);
    __syncwarp();  // the lists have been read: the next pass's rows may take their place
  }
  write_counts(p.workspace, p.local_experts, memory.counts);
}

int lanes_log2_of(int experts) {
  int log2 = 0;
  while ((kExpertsALane << log2) < experts) ++log2;
  return log2;
}

bool is_power_of_two(int x) {
  return x > 0 && (x & (x - 1)) == 0;
}

bool groups_are_lanes(const contract::Geometry& g) {
  const int size = g.experts_per_group();
  return size % kExpertsALane == 0 && is_power_of_two(size / kExpertsALane);
}

// A warp never has more than a token block; wide tokens take less shared memory in narrower CTAs.
int threads_of(int lanes) {
  return lanes <= 8 ? 32 * lanes : 128;
}

RouteParams params_of(const contract::Geometry& g) {
  RouteParams p = {};
  p.experts = g.experts;
  p.local_experts = g.local_experts;
  p.top_k = g.top_k;
  p.picks = g.max_local_picks();
  p.groups = g.n_group;
  p.groups_kept = g.topk_group;
  p.lanes_log2 = lanes_log2_of(g.experts);
  p.lanes = 1 << p.lanes_log2;
  p.groups_are_lanes = groups_are_lanes(g);
  return p;
}

template <typename Logit>
Error launch(const RouteParams& p, const LaunchShape& shape, cudaStream_t stream) {
  return p.pruning.is_on() ? launch_kernel("route", route<Logit, true>, shape, stream, p)
                           : launch_kernel("route", route<Logit, false>, shape, stream, p);
}

template <typename Logit>
Error prepare() {
  return first_error([] { return prepare_for_any_shared_memory("route", route<Logit, false>); },
                     [] { return prepare_for_any_shared_memory("route", route<Logit, true>); });
}

}  // namespace

Error launch_route(const Slab& slab, cudaStream_t stream) {
  const TraceRange range("route");
  if (is_grouped(slab)) return launch_route_grouped(slab, stream);
  const contract::Activations& a = slab.activations;
  RouteParams p = params_of(slab.geometry);
  p.logits = a.routing_logits;
  p.pitch = a.routing_logits_pitch;
  p.vectors = p.experts % 4 == 0 && readable_by_four(a.routing_logits, a.routing_logits_type, a.routing_logits_pitch);
  p.bias = slab.weights.routing_bias;
  p.bias_type = slab.weights.routing_bias_type;
  p.tokens = static_cast<int>(a.tokens);
  p.local_offset = slab.weights.local_expert_offset;
  p.factor = slab.weights.routed_scaling_factor;
  p.workspace = slab.workspace;
  p.pruning = slab.pruning;
  LaunchShape shape;
  shape.block = static_cast<unsigned>(threads_of(p.lanes));
  shape.grid = static_cast<unsigned>((p.tokens + plan::kTokenBlock - 1) / plan::kTokenBlock);
  shape.shared_bytes = RouteMemory::bytes(p, threads_of(p.lanes));
  return a.routing_logits_type == contract::FloatType::f32 ? launch<float>(p, shape, stream)
                                                           : launch<__nv_bfloat16>(p, shape, stream);
}

Error prepare_route() {
  return first_error([] { return prepare<float>(); }, [] { return prepare<__nv_bfloat16>(); });
}

}  // namespace blockmoe::kernels::stages
