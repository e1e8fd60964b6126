// layer.hpp: the layer run stage by stage, timed.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/call.hpp"
#include "cpu/instruction_set.hpp"
#include "workload/inputs.hpp"

namespace blockmoe::bench {

struct StageSeconds {
  double route = 0, pack = 0, gemm1 = 0, gemm2 = 0, combine = 0;
  double total() const { return route + pack + gemm1 + gemm2 + combine; }
};

struct LayerRun {
  StageSeconds best;    ///< of the run with the smallest total
  StageSeconds median;  ///< of the run with the middle total
  std::int64_t rows = 0;
  std::int64_t active_experts = 0;
  std::vector<std::uint16_t> output;  ///< [T, H] bf16
};

LayerRun run_layer(const workload::Inputs& inputs, cpu::InstructionSet set, int threads, int runs);

}  // namespace blockmoe::bench
