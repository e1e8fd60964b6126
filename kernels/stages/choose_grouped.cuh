// choose_grouped.cuh: route_grouped.cu's choice: from one token's logits to its picks and their weights.
//
// W lanes of a warp handle a token, each with 256 / W consecutive experts: a group is W / 8 lanes.
//
//   approximate  b from the special-function unit, wrong by less than half a margin (margin_of)
//   settle       each group's two best; a group is kept or dropped if its score is further than the margin from every score
//                that could decide otherwise
//   list         the experts of kept groups that reach the least of the kept groups' second-best b, less the margin: 8
//                experts reach it for sure, so the picks are among them; 11 do on average
//   rank         exact b and s of the listed alone; a candidate's place is the number of larger b
//
// Groups whose scores lie within the margin (those of one random token in 10000; of one in 2000 if logits are bf16 and there
// is no bias) are settled by exact scores, for the whole warp, in code that is there anyway: a first trip through `list` has
// the experts of these groups that reach their group's second-best b, less the margin, and so the exact two best of each.
// What is left (more than kMostListed candidates, which takes ties; NaN; a bias beyond kLargestBias) choose_exactly() does
// as the contract has it, expert by expert.
//
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

#include <cuda_bf16.h>

#include "checked.h"
#include "contract/pruning.h"
#include "contract/routing.h"
#include "ptx/cp_async.h"
#include "stages/route.cuh"
#include "stages/sigmoid.cuh"

namespace blockmoe::kernels::stages {
namespace {

constexpr int kExperts = 256;
constexpr int kGroups = 8;
constexpr int kGroupExperts = kExperts / kGroups;
constexpr int kGroupsKept = 4;
constexpr int kTopK = 8;
static_assert(2 * kGroupsKept >= kTopK, "top_k experts reach the least of the kept groups' second-best scores");

// How far apart two approximate scores must be to stand in the right order. Let d be the sigmoid's error, u = 2^-24 the
// relative error of a rounding and B = 1 + the largest |bias|, which no |b| exceeds. Approximate and exact value differ by
//   of b         at most  d + 2 u B       both sums round
//   of a group   at most  2 d + 8 u B     two such b, and both sums, at most 2 B, round
// so two groups further apart than 4 d + 16 u B stand in the right order, and with the rounding of score +- margin, 2 u B,
// further than 4 d + 18 u B. The margin is 32 u + 32 u B; what it has to spare, at least 14 u, covers terms of u d and u u.
// Where experts are compared with some group's second-best b, 2 d + 5 u B would do.
constexpr float kLargestBias = 1024.0f;  // choice_score() corrects nothing at less than FLT_MAX / 2, but for NaN
constexpr float kRounding = 1.0f / (1 << 24);
constexpr float kMarginUnit = 32.0f * kRounding;
static_assert(4.0f * kApproximateSigmoidError <= kMarginUnit && 18.0f * kRounding < kMarginUnit, "the bound above");

__device__ float margin_of(float largest_bias) {
  return (largest_bias + 2.0f) * kMarginUnit;
}

constexpr int kRowPitch = kGroupExperts + 4;  // floats from group to group: 8 lanes' vectors lie in different banks
constexpr int kMostListed = 40;               // random logits have 24 one time in 2000, 32 one time in 400000

struct GroupedParams {
  const void* logits;  // [T', E]
  std::int32_t pitch;  // elements from token to token
  const void* bias;    // [E] or null
  contract::FloatType bias_type;
  int tokens;         // T'
  int local_experts;  // L
  std::int32_t local_offset;
  float factor;
  int picks;                // P
  std::uint32_t* counters;  // of the path, to become 0: by route_and_pack
  int counter_words;
  Workspace workspace;
  contract::Pruning pruning;
};

using Rows = float[kGroups][kRowPitch];  // a value an expert

__device__ float& of_expert(Rows& rows, unsigned expert) {
  return rows[expert / kGroupExperts][expert % kGroupExperts];
}
__device__ const float& of_expert(const Rows& rows, unsigned expert) {
  return rows[expert / kGroupExperts][expert % kGroupExperts];
}

// One token's shared memory.
struct alignas(16) TokenMemory {
  Rows logits;                    // of the listed, in the end: s
  float choice[kMostListed + 4];  // b of the listed, then -Inf up to a multiple of four
  float pick_mixing[kTopK];       // s of the picks
  std::uint8_t listed[kMostListed];
  std::uint8_t pick[kTopK];
  std::uint8_t pad[32];
};
static_assert(sizeof(TokenMemory) / 4 % 32 == 8, "the lists of a warp's four tokens lie in different banks");
static_assert(offsetof(TokenMemory, choice) % 16 == 0 && offsetof(TokenMemory, pick_mixing) % 16 == 0, "vectors");

// Shared memory of a CTA: bias (behind each group's: the largest |bias| of the group), tokens, then what the kernel counts the
// local experts' rows with.
struct GroupedMemory {
  Rows& bias;
  TokenMemory* tokens;
  std::uint32_t* of_local;

  static std::size_t bytes(int tokens, std::size_t local_bytes) {
    return sizeof(Rows) + static_cast<std::size_t>(tokens) * sizeof(TokenMemory) + local_bytes;
  }

  __device__ GroupedMemory(char* base, int token_count)
      : bias(*reinterpret_cast<Rows*>(base)),
        tokens(reinterpret_cast<TokenMemory*>(base + sizeof(Rows))),
        of_local(reinterpret_cast<std::uint32_t*>(tokens + token_count)) {}
};

__device__ char* shared_memory() {
  extern __shared__ __align__(16) char shared[];
  return shared;
}

// One lane's place among the W = kLanes of its token.
template <int kLanes>
struct Place {
  static constexpr int kExpertsALane = kExperts / kLanes;
  static constexpr int kLanesAGroup = kLanes / kGroups;
  static constexpr int kTokensAWarp = 32 / kLanes;

  int lane;        // of the token's
  int first;       // lane of the warp
  int slot;        // of the token among the CTA's
  int token;       // within the slab; may be past the last
  int warp_token;  // the warp's first

  __device__ explicit Place(int first_token) {
    lane = static_cast<int>(threadIdx.x % kLanes);
    first = static_cast<int>(threadIdx.x % 32) - lane;
    slot = static_cast<int>(threadIdx.x / kLanes);
    token = first_token + slot;
    warp_token = first_token + static_cast<int>(threadIdx.x / 32) * kTokensAWarp;
  }

  __device__ unsigned first_expert() const { return static_cast<unsigned>(lane * kExpertsALane); }
};

// Four logits on their way to shared memory: there after await_logits().
__device__ void fetch_four(const float* from, float* to) {
  ptx::cp_async_16(to, from);
}
__device__ void fetch_four(const __nv_bfloat16* from, float* to) {
  *reinterpret_cast<float4*>(to) = load_four(from);
}

// The logits of the warp's tokens, into their memory. For tokens past the last stand the last one's.
template <int kLanes, typename Logit>
__device__ void fetch_logits(const GroupedParams& p, const Place<kLanes>& place, TokenMemory* warp_tokens) {
  const unsigned lane = threadIdx.x % 32;
#pragma unroll
  for (int t = 0; t < Place<kLanes>::kTokensAWarp; ++t) {
    const int token = min(place.warp_token + t, p.tokens - 1);
    const Logit* const from =
        static_cast<const Logit*>(p.logits) + static_cast<std::int64_t>(token) * p.pitch + lane * 4;
#pragma unroll
    for (unsigned half = 0; half < 2; ++half) {
      fetch_four(from + half * 128, &warp_tokens[t].logits[half * 4 + lane / 8][lane % 8 * 4]);
    }
  }
  ptx::cp_async_commit();
}

__device__ void await_logits() {
  ptx::cp_async_wait<0>();
  __syncwarp();
}

// Approximate b of the lane's experts, and the two best of them.
template <int kExpertsALane>
__device__ TopTwo approximate(const float* logits, const float* bias, float (&b)[kExpertsALane]) {
  TopTwo top;
#pragma unroll
  for (int i = 0; i < kExpertsALane; i += 4) {
    const float4 x = *reinterpret_cast<const float4*>(logits + i);
    const float4 add = *reinterpret_cast<const float4*>(bias + i);
    b[i] = approximate_sigmoid(x.x) + add.x;
    b[i + 1] = approximate_sigmoid(x.y) + add.y;
    b[i + 2] = approximate_sigmoid(x.z) + add.z;
    b[i + 3] = approximate_sigmoid(x.w) + add.w;
    TopTwo pair;
    pair.best = ptx::max_nan(b[i], b[i + 1]);
    pair.second = ptx::min_nan(b[i], b[i + 1]);
    TopTwo other;
    other.best = ptx::max_nan(b[i + 2], b[i + 3]);
    other.second = ptx::min_nan(b[i + 2], b[i + 3]);
    pair.add(other);
    top.add(pair);
  }
  return top;
}

// The two best of the lane's group.
template <int kLanes>
__device__ TopTwo top_two_of_group(TopTwo top) {
#pragma unroll
  for (int distance = 1; distance < Place<kLanes>::kLanesAGroup; distance *= 2) {
    TopTwo other;
    other.best = __shfl_xor_sync(kAllLanes, top.best, distance);
    other.second = __shfl_xor_sync(kAllLanes, top.second, distance);
    top.add(other);
  }
  return top;
}

// What is certain of a lane's group, whatever the error of the scores.
struct Settled {
  bool kept;
  bool dropped;

  __device__ bool in_question() const { return !kept && !dropped; }
};

// 1 where x is negative, -0 and NaN apart. In what follows b - a < 0 stands for a > b: a subtraction goes to another pipe than
// a comparison would, and the sign is added in one instruction. Nothing is infinite where it counts.
__device__ int is_negative(float x) {
  return static_cast<int>(__float_as_uint(x) >> 31);
}

// `score` is approximate. Where one of the token's is NaN, nothing that comes back counts.
template <int kLanes>
__device__ Settled settle(const Place<kLanes>& place, float score, float margin) {
  const float above = score + margin;
  const float below = score - margin;
  int better = 0;  // groups that are better for certain
  int worse = 0;   // groups that are worse for certain
#pragma unroll
  for (int g = 0; g < kGroups; ++g) {
    const float other = __shfl_sync(kAllLanes, score, place.first + g * Place<kLanes>::kLanesAGroup);
    better += is_negative(above - other);
    worse += is_negative(other - below);
  }
  return {worse >= kGroups - kGroupsKept, better >= kGroupsKept};
}

// Whether the lane's group is among the best, by exact scores; ties go to the lower group.
template <int kLanes>
__device__ bool is_kept(const Place<kLanes>& place, float score) {
  const int group = place.lane / Place<kLanes>::kLanesAGroup;
  int better = 0;
#pragma unroll 1
  for (int g = 0; g < kGroups; ++g) {
    const float other = __shfl_sync(kAllLanes, score, place.first + g * Place<kLanes>::kLanesAGroup);
    better += static_cast<int>(other > score || (other == score && g < group));
  }
  return better < kGroupsKept;
}

// The least second-best score of the token's groups that are wanted.
template <int kLanes>
__device__ float least_second(float second, bool wanted) {
  float least = wanted ? second : INFINITY;
#pragma unroll
  for (int distance = Place<kLanes>::kLanesAGroup; distance < kLanes; distance *= 2) {
    least = fminf(least, __shfl_xor_sync(kAllLanes, least, distance));
  }
  return least;
}

// Bit i: expert i of the lane reaches `reach`.
template <int kExpertsALane>
__device__ std::uint32_t reaching(const float (&b)[kExpertsALane], float reach) {
  std::uint32_t below = 0;
#pragma unroll
  for (int i = kExpertsALane - 1; i >= 0; --i) below = __funnelshift_l(__float_as_uint(b[i] - reach), below, 1);
  return ~below & (0xffffffffu >> (32 - kExpertsALane));
}

// The sum of x over the token's lanes up to this one.
template <int kLanes>
__device__ int inclusive_sum(const Place<kLanes>& place, int x) {
#pragma unroll
  for (int distance = 1; distance < kLanes; distance *= 2) {
    const int before = __shfl_up_sync(kAllLanes, x, static_cast<unsigned>(distance), kLanes);
    if (place.lane >= distance) x += before;
  }
  return x;
}

// Exact b of the listed, and, if these are the candidates, s in place of their logits; no place has a pick yet.
template <int kLanes>
__device__ void score_listed(const Place<kLanes>& place, int total, bool candidates, const Rows& bias,
                             TokenMemory& token) {
#pragma unroll 1
  for (int c = place.lane; c < total; c += kLanes) {
    const unsigned expert = token.listed[c];
    float& logit = of_expert(token.logits, expert);
    const float s = sigmoid(logit);
    if (candidates) logit = s;
    token.choice[c] = __fadd_rn(s, of_expert(bias, expert));  // choice_score() corrects nothing here
  }
  if (place.lane < 4) token.choice[total + place.lane] = -INFINITY;
  if (place.lane < kTopK) token.pick_mixing[place.lane] = -1.0f;
  __syncwarp();
}

// The same with nothing left in question. Of a group that is, choice[begin] to choice[end - 1] are the exact b of those of
// the lane's experts that may be the group's two best.
template <int kLanes>
__device__ Settled settle_exactly(const Place<kLanes>& place, const Settled& group, int begin, int end,
                                  const TokenMemory& token) {
  TopTwo top;
#pragma unroll 1
  for (int c = begin; c < end; ++c) top.add(token.choice[c]);
  top = top_two_of_group<kLanes>(top);
  const float score = contract::group_score(top.best, top.second);  // -Inf where nothing is listed
  const bool kept = is_kept(place, group.kept ? INFINITY : score);
  return {kept, !kept};
}

__device__ void take(TokenMemory& token, int candidate, int place_of_pick) {
  if (place_of_pick >= kTopK) return;
  const std::uint8_t expert = token.listed[candidate];
  token.pick_mixing[place_of_pick] = of_expert(token.logits, expert);
  token.pick[place_of_pick] = expert;
}

// Each candidate to the last place that its b could have: the number of other candidates that are not smaller. Where
// candidates with the same b would decide something, a place stays empty; returns whether none did.
template <int kLanes>
__device__ bool rank(const Place<kLanes>& place, int total, TokenMemory& token) {
  constexpr bool kTwo = kLanes < 16;  // candidates a lane at once: with 8 lanes a list has seldom more than 16
#pragma unroll 1
  for (int c = place.lane; c < total; c += kTwo ? 2 * kLanes : kLanes) {
    const bool has_second = kTwo && c + kLanes < total;
    const float first = token.choice[c];
    const float second = has_second ? token.choice[c + kLanes] : 0.0f;
    int first_place = -1;  // the candidate itself is counted, too
    int second_place = -1;
#pragma unroll 1
    for (int other = 0; other < total; other += 4) {
      const float4 four = *reinterpret_cast<const float4*>(token.choice + other);
      const float b[4] = {four.x, four.y, four.z, four.w};
      first_place += 4;
      second_place += 4;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        first_place -= is_negative(b[i] - first);
        second_place -= is_negative(b[i] - second);
      }
    }
    take(token, c, first_place);
    if (has_second) take(token, c + kLanes, second_place);
  }
  __syncwarp();
  return __all_sync(kAllLanes, place.lane >= kTopK || token.pick_mixing[place.lane % kTopK] >= 0.0f) != 0;
}

// The same with ties: they go to the lower expert, which stands first in the list.
template <int kLanes>
__device__ void rank_with_ties(const Place<kLanes>& place, int total, TokenMemory& token) {
#pragma unroll 1
  for (int c = place.lane; c < total; c += kLanes) {
    const float mine = token.choice[c];
    int better = 0;
#pragma unroll 1
    for (int other = 0; other < total; ++other) {
      const float b = token.choice[other];
      better += static_cast<int>(b > mine || (b == mine && other < c));
    }
    take(token, c, better);
  }
  __syncwarp();
}

template <typename Logit>
__device__ float logit_of(const GroupedParams& p, int token, int expert) {
  return to_float(
      static_cast<const Logit*>(p.logits)[static_cast<std::int64_t>(min(token, p.tokens - 1)) * p.pitch + expert]);
}

// The picks by exact scores, which take the logits' place, one pick after the other. Slow, and right for all inputs.
template <int kLanes, typename Logit>
__device__ void choose_exactly(const GroupedParams& p, const Place<kLanes>& place, const Rows& bias,
                               TokenMemory& token) {
  constexpr int kCount = Place<kLanes>::kExpertsALane;
  float* const row = &of_expert(token.logits, place.first_expert());
  TopTwo top;
#pragma unroll 1
  for (int i = 0; i < kCount; ++i) {
    row[i] = contract::choice_score(sigmoid(row[i]), of_expert(bias, place.first_expert() + static_cast<unsigned>(i)));
    top.add(row[i]);
  }
  top = top_two_of_group<kLanes>(top);
  const float score = contract::group_score(top.best, top.second);
  const bool kept = is_kept(place, score);

  std::uint64_t last = ~std::uint64_t{0};
#pragma unroll 1
  for (int j = 0; j < kTopK; ++j) {
    std::uint64_t best = 0;
    if (kept) {
#pragma unroll 4
      for (int i = 0; i < kCount; ++i) {
        const std::uint64_t key = contract::choice_key(row[i], place.first_expert() + static_cast<unsigned>(i));
        if (key < last && key > best) best = key;
      }
    }
#pragma unroll
    for (int distance = 1; distance < kLanes; distance *= 2) {
      const std::uint64_t other = __shfl_xor_sync(kAllLanes, best, distance);
      best = other > best ? other : best;
    }
    if (place.lane == j) {
      const auto expert = static_cast<int>(contract::number_of_key(best));
      const float s = sigmoid(logit_of<Logit>(p, place.token, expert));
      token.pick_mixing[j] = s != s ? 0.0f : s;
      token.pick[j] = static_cast<std::uint8_t>(expert);
    }
    last = best;
  }
  __syncwarp();
}

// The picks of the warp's tokens, in order, into pick and pick_mixing.
template <int kLanes, typename Logit>
__device__ void choose(const GroupedParams& p, const Place<kLanes>& place, const Rows& bias, float largest_bias,
                       TokenMemory& token) {
  float b[Place<kLanes>::kExpertsALane];
  const unsigned expert = place.first_expert();
  const TopTwo top =
      top_two_of_group<kLanes>(approximate(&of_expert(token.logits, expert), &of_expert(bias, expert), b));
  const float score = top.best + top.second;
  const float margin = margin_of(largest_bias);
  const bool sound = largest_bias <= kLargestBias && score == score;  // no NaN
  Settled group = settle(place, score, margin);
  bool settled = false;
  bool fits = false;
  int total = 0;
#pragma unroll 1
  do {  // once, as a rule; twice if groups are in question, whose best experts are listed first
    settled = __all_sync(kAllLanes, !group.in_question()) != 0;
    const bool wanted = settled ? group.kept : group.in_question();
    const float least = least_second<kLanes>(top.second, wanted);
    const float reach = settled ? least : top.second;
    std::uint32_t listed = reaching(b, wanted ? reach - margin : INFINITY);
    const int mine = __popc(listed);
    const int end = inclusive_sum(place, mine);
    total = __shfl_sync(kAllLanes, end, place.first + kLanes - 1);
    fits = __all_sync(kAllLanes, sound && total <= kMostListed) != 0;
    if (fits) {
      for (int at = end - mine; listed != 0; listed &= listed - 1) {
        token.listed[at++] =
            static_cast<std::uint8_t>(expert + static_cast<unsigned>(__ffs(static_cast<int>(listed))) - 1u);
      }
      __syncwarp();
      score_listed(place, total, settled, bias, token);
      if (!settled) group = settle_exactly(place, group, end - mine, end, token);
    }
  } while (fits && !settled);
  if (!fits) {
    choose_exactly<kLanes, Logit>(p, place, bias, token);
    return;
  }
  BLOCKMOE_CHECK(total >= kTopK);
  if (!rank(place, total, token)) rank_with_ties(place, total, token);
}

// What a lane knows of its token's local picks, of which lane j has pick j.
struct Pick {
  std::int32_t local_expert = -1;  // of the lane's own pick, where that is local
  int slot = 0;                    // local picks before it
  bool empty = false;              // slot `lane` of the token has no pick
};

// The weight of the lane's pick, for the first kTopK lanes.
template <int kLanes>
__device__ float weight_of(const GroupedParams& p, const Place<kLanes>& place, const TokenMemory& token) {
  float sum = 0.0f;
#pragma unroll
  for (int j = 0; j < kTopK; ++j) sum = contract::rn::add(sum, token.pick_mixing[j]);
  return contract::routing_weight(token.pick_mixing[place.lane], sum, p.factor);
}

// Whether the lane's pick, local or not, is a row after pruning; by all lanes of the warp. The candidates' scores have been
// read: the weights take their place.
template <int kLanes>
__device__ bool is_left(const GroupedParams& p, const Place<kLanes>& place, TokenMemory& token, bool local) {
  if (place.lane < kTopK) token.choice[place.lane] = weight_of(p, place, token);
  __syncwarp();
  const unsigned locals = __ballot_sync(kAllLanes, local) >> place.first;
  const contract::TokenPicks picks = {token.choice, kTopK, ~0u, locals};
  return local && contract::stays(p.pruning, picks, contract::least_magnitude(p.pruning, picks), place.lane);
}

// The picks' weights; the local ones go to the workspace.
template <int kLanes, bool kPrunes>
__device__ Pick finish(const GroupedParams& p, const Place<kLanes>& place, TokenMemory& token) {
  const bool has = place.lane < kTopK && place.token < p.tokens;
  const std::int32_t expert = token.pick[place.lane % kTopK];
  bool local = has && is_local(expert, p.local_offset, p.local_experts);
  if constexpr (kPrunes) local = is_left(p, place, token, local);
  const unsigned locals = (__ballot_sync(kAllLanes, local) >> place.first) & ((1u << kTopK) - 1u);
  Pick pick;
  pick.slot = __popc(locals & ((1u << place.lane) - 1u));
  pick.empty = has && place.lane >= __popc(locals) && place.lane < p.picks;
  const std::int64_t out = static_cast<std::int64_t>(place.token) * p.picks;
  if (local) {
    BLOCKMOE_CHECK(pick.slot < p.picks);
    pick.local_expert = expert - p.local_offset;
    p.workspace.pick_expert[out + pick.slot] = pick.local_expert;
    p.workspace.pick_weight[out + pick.slot] = weight_of(p, place, token);
  }
  if (pick.empty) p.workspace.pick_expert[out + place.lane] = -1;
  return pick;
}

// One expert's bias from each thread of the warps that have an expert; the largest |bias| of a group stands behind its last
// expert's. NaN is larger than all else: the bits of what isn't negative are ordered as the values are.
__device__ void bring_bias(Rows& rows, float bias) {
  static_assert(kGroupExperts == 32, "a group's are one warp's");
  of_expert(rows, threadIdx.x) = bias;
  const std::uint32_t largest = __reduce_max_sync(kAllLanes, __float_as_uint(fabsf(bias)));
  if (threadIdx.x % 32 == 0) rows[threadIdx.x / 32][kGroupExperts] = __uint_as_float(largest);
}
__device__ float largest_of(const Rows& rows) {
  const float of_group = rows[threadIdx.x % kGroups][kGroupExperts];
  return __uint_as_float(__reduce_max_sync(kAllLanes, __float_as_uint(of_group)));
}

// All of a lane's part in its token: from logits to picks. By all threads of the CTA.
template <int kLanes, typename Logit, bool kPrunes>
__device__ Pick route_token(const GroupedParams& p, const Place<kLanes>& place, const GroupedMemory& memory) {
  const int thread = static_cast<int>(threadIdx.x);
  const float bias = thread < kExperts ? bias_of(p.bias, p.bias_type, thread) : 0.0f;
  const bool warp_has_tokens = place.warp_token < p.tokens;
  TokenMemory& token = memory.tokens[place.slot];
  if (warp_has_tokens) fetch_logits<kLanes, Logit>(p, place, &memory.tokens[place.slot - place.first / kLanes]);
  if (thread < kExperts) bring_bias(memory.bias, bias);
  __syncthreads();
  if (!warp_has_tokens) return Pick();
  const float largest_bias = largest_of(memory.bias);
  await_logits();
  choose<kLanes, Logit>(p, place, memory.bias, largest_bias, token);
  return finish<kLanes, kPrunes>(p, place, token);
}

}  // namespace
}  // namespace blockmoe::kernels::stages
