// take_picks.cpp: the caller's picks in place of routing: those that are on this rank, in the order in which they stand.
//
//   experts  [T, top_k]  int32, any values     weights  [T, top_k]  f32
//   picks    [tokens of the block, max_local_picks] out
//
// One thread: 16384 tokens of 8 picks are 1 MB.
#include "cpu/take_picks.hpp"

#include <algorithm>

#include "contract/pruning.h"

namespace blockmoe::cpu {
namespace {

// The local number of an expert, or -1 where it is none of the model's or not on this rank.
std::int32_t local_of(const Call& call, std::int32_t expert) {
  if (expert < 0 || expert >= call.geometry.experts) return -1;
  const std::int64_t local = std::int64_t{expert} - call.weights.local_expert_offset;
  return local >= 0 && local < call.geometry.local_experts ? static_cast<std::int32_t>(local) : -1;
}

// Of `picks`, all.local in their order, those that stay move to the front; returns how many.
std::int32_t prune(const contract::Pruning& rule, const contract::TokenPicks& all, LocalPick* picks) {
  const std::uint32_t kept = contract::kept_picks(rule, all);
  const LocalPick* from = picks;
  LocalPick* end = picks;
  for (std::int32_t i = 0; i < all.count; ++i) {
    if (!contract::is_in(all.local, i)) continue;
    if (contract::is_in(kept, i)) *end++ = *from;
    ++from;
  }
  return static_cast<std::int32_t>(end - picks);
}

// A repeated expert counts once: a token has no more local picks than the workspace has room for.
std::int32_t take_token(const Call& call, const std::int32_t* experts, const float* weights, LocalPick* picks) {
  LocalPick* end = picks;
  contract::TokenPicks all = {weights, call.geometry.top_k, 0, 0};
  for (std::int32_t i = 0; i < call.geometry.top_k; ++i) {
    const std::int32_t local = local_of(call, experts[i]);
    const bool is_new = std::none_of(picks, end, [&](const LocalPick& pick) { return pick.expert == local; });
    const bool taken = local >= 0 && is_new;
    if (taken) *end++ = {local, weights[i], -1};
    all.picked |= static_cast<std::uint32_t>(experts[i] >= 0 && experts[i] < call.geometry.experts) << i;
    all.local |= static_cast<std::uint32_t>(taken) << i;
  }
  return call.pruning.is_on() ? prune(call.pruning, all, picks) : static_cast<std::int32_t>(end - picks);
}

}  // namespace

void take_picks(const Call& call, const TokenBlock& block) {
  const contract::Picks& given = *call.given_picks;
  for (std::int64_t t = 0; t < block.count; ++t) {
    const std::int64_t token = block.first + t;
    call.buffers.pick_count[t] = take_token(call, given.experts + token * given.experts_pitch,
                                            given.weights + token * given.weights_pitch, call.picks_of(t));
  }
}

}  // namespace blockmoe::cpu
