// setup.cpp: see setup.hpp.
#include "ep/setup.hpp"

#include <cstddef>

#include "api/refusal.hpp"

namespace blockmoe::ep {

using api::join;

std::array<Agreed, kAgreed> agreed_fields(const api::PlanRequest& layer, const EpOptions& options) {
  const contract::Geometry& g = layer.geometry;
  const Options& o = layer.options;
  return {{{"layer.experts", g.experts},
           {"layer.hidden", g.hidden},
           {"layer.intermediate", g.intermediate},
           {"layer.top_k", g.top_k},
           {"layer.n_group", g.n_group},
           {"layer.topk_group", g.topk_group},
           {"max_tokens", layer.max_tokens},
           {"ep_options.way", static_cast<std::int64_t>(options.way)},
           {"ep_options.pieces", options.pieces},
           {"ep_options.serial", options.serial},
           {"ep_options.expert_map, given (1) or not (0)", options.expert_map == nullptr ? 0 : 1},
           {"options.gate_first", o.gate_first ? 1 : 0},
           {"options.pruning.max_local_picks", o.pruning.max_local_picks},
           {"options.batch_invariant", o.batch_invariant ? 1 : 0},
           {"options.intermediate_type", static_cast<std::int64_t>(o.intermediate_type)},
           {"options.policy", static_cast<std::int64_t>(o.policy)},
           {"options.no_trtllm_gemm1", o.no_trtllm_gemm1},
           {"options.no_trtllm_gemm2", o.no_trtllm_gemm2},
           {"options.mma_gemm2_m_threshold", o.mma_gemm2_m_threshold},
           {"options.trtllm_gemm2_m_threshold", o.trtllm_gemm2_m_threshold},
           // Last: without a map every rank has as many.
           {"layer.local_experts", options.expert_map == nullptr ? g.local_experts : 0}}};
}

Status check_agreement(const std::vector<Description>& of_rank, const std::array<Agreed, kAgreed>& names) {
  for (std::size_t r = 1; r < of_rank.size(); ++r) {
    for (std::size_t i = 0; i < kAgreed; ++i) {
      const std::int64_t first = of_rank[0].agreed[i];
      const std::int64_t other = of_rank[r].agreed[i];
      if (first == other) continue;
      return api::refuse(names[i].name, join(first, " on rank 0, ", other, " on rank ", r), "the same on every rank");
    }
  }
  return {};
}

std::string who_is_behind(const EpBoard& board, std::int32_t ranks, std::int64_t calls) {
  std::string text;
  if (board.read == nullptr) return text;
  for (std::int32_t r = 0; r < ranks; ++r) {
    const std::int64_t begun = board.read(board.context, r);
    if (begun >= calls) continue;
    text += join(text.empty() ? "" : ", ", "rank ", r, " has begun ", begun, " calls, expected ", calls);
  }
  return text;
}

std::string blame(const EpBoard& board, std::int32_t ranks, std::int64_t calls) {
  if (board.read == nullptr) return "no board was given, so which rank is missing is not known";
  const std::string behind = who_is_behind(board, ranks, calls);
  return behind.empty() ? "every rank has begun its call; one may have died since" : behind;
}

}  // namespace blockmoe::ep
