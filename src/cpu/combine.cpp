// combine.cpp: each token's weighted sum of its experts' rows, in pick order, rounded once where the output is bf16.
//
//   expert_output  [max_rows, H]  f32        output  [T, H]  bf16 or f32 out, pitched
#include "cpu/combine.hpp"

#include <algorithm>
#include <array>

#include "cpu/lanes.hpp"

namespace blockmoe::cpu {
namespace {

constexpr std::int64_t kTokensPerTask = 16;

void combine_token(const Call& call, std::int64_t token_in_block, std::int64_t token) {
  std::array<const float*, contract::kMaxTopK> rows;
  std::array<float, contract::kMaxTopK> weights;
  const LocalPick* picks = call.picks_of(token_in_block);
  const std::int32_t count = call.buffers.pick_count[token_in_block];
  for (std::int32_t i = 0; i < count; ++i) {
    rows[static_cast<std::size_t>(i)] = call.buffers.expert_output + picks[i].row * call.geometry.hidden;
    weights[static_cast<std::size_t>(i)] = picks[i].weight;
  }
  const contract::Activations& a = call.activations;
  const auto sum_into = [&](auto* output) {
    weighted_sum(rows.data(), weights.data(), count, call.geometry.hidden, output + token * a.output_pitch);
  };
  if (a.output_type == contract::FloatType::f32) {
    sum_into(static_cast<float*>(a.output));
  } else {
    sum_into(static_cast<std::uint16_t*>(a.output));
  }
}

}  // namespace

void combine(const Call& call, const TokenBlock& block, const Chunk& chunk) {
  const std::int64_t tasks = (chunk.end - chunk.begin + kTokensPerTask - 1) / kTokensPerTask;
  call.pool.for_each(tasks, [&](std::int64_t task, int) {
    const std::int64_t begin = chunk.begin + task * kTokensPerTask;
    const std::int64_t end = std::min(chunk.end, begin + kTokensPerTask);
    for (std::int64_t t = begin; t < end; ++t) combine_token(call, t, block.first + t);
  });
}

}  // namespace blockmoe::cpu
