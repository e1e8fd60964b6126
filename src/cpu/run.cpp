// run.cpp: the flow of a call: blocks of tokens are routed, chunks of them go through the other stages (workspace.hpp).
#include "cpu/run.hpp"

#include <algorithm>

#include "cpu/combine.hpp"
#include "cpu/gemm1.hpp"
#include "cpu/gemm2.hpp"
#include "cpu/pack.hpp"
#include "cpu/route.hpp"
#include "cpu/take_picks.hpp"

namespace blockmoe::cpu {
namespace {

void run_block(const Call& call, const TokenBlock& block) {
  if (call.given_picks != nullptr) {
    take_picks(call, block);
  } else {
    route(call, block);
  }
  for (std::int64_t begin = 0; begin < block.count;) {
    const Chunk chunk = pack(call, block, begin);
    gemm1(call, chunk);
    gemm2(call, chunk);
    combine(call, block, chunk);
    begin = chunk.end;
  }
}

}  // namespace

void run(const Call& call) {
  const std::int64_t tokens = call.activations.tokens;
  for (std::int64_t first = 0; first < tokens; first += call.sizes.block_tokens) {
    run_block(call, {first, std::min(call.sizes.block_tokens, tokens - first)});
  }
}

}  // namespace blockmoe::cpu
