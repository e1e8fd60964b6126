#include "layer.hpp"

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "cpu/combine.hpp"
#include "cpu/gemm1.hpp"
#include "cpu/gemm2.hpp"
#include "cpu/pack.hpp"
#include "cpu/route.hpp"
#include "machine.hpp"

namespace blockmoe::bench {
namespace {

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};

template <typename Stage>
void timed(double& seconds, const Stage& stage) {
  const double begin = seconds_now();
  stage();
  seconds += seconds_now() - begin;
}

struct Run {
  StageSeconds seconds;
  std::int64_t rows = 0;
  std::int64_t active_experts = 0;
};

// cpu/run.cpp's flow, with a clock.
Run run_once(const cpu::Call& call) {
  Run run;
  const std::int64_t tokens = call.activations.tokens;
  for (std::int64_t first = 0; first < tokens; first += call.sizes.block_tokens) {
    const cpu::TokenBlock block{first, std::min(call.sizes.block_tokens, tokens - first)};
    timed(run.seconds.route, [&] { cpu::route(call, block); });
    cpu::Chunk chunk;
    for (std::int64_t begin = 0; begin < block.count; begin = chunk.end) {
      timed(run.seconds.pack, [&] { chunk = cpu::pack(call, block, begin); });
      timed(run.seconds.gemm1, [&] { cpu::gemm1(call, chunk); });
      timed(run.seconds.gemm2, [&] { cpu::gemm2(call, chunk); });
      timed(run.seconds.combine, [&] { cpu::combine(call, block, chunk); });
      for (std::int64_t i = 0; i < chunk.row_blocks; ++i) {
        const cpu::RowBlock* rows = call.buffers.row_blocks + i;
        run.rows += rows->count;
        run.active_experts += i == 0 || rows->expert != rows[-1].expert ? 1 : 0;
      }
    }
  }
  return run;
}

}  // namespace

LayerRun run_layer(const workload::Inputs& inputs, cpu::InstructionSet set, int threads, int runs) {
  const cpu::Products& products = cpu::products_of(set);
  const cpu::Sizes sizes = cpu::choose_sizes(inputs.geometry, inputs.tokens(), threads);
  const std::size_t bytes = cpu::workspace_bytes(inputs.geometry, sizes, products);
  const std::unique_ptr<void, Free> workspace(std::aligned_alloc(256, bytes));
  cpu::ThreadPool pool(threads);

  LayerRun result;
  result.output.resize(static_cast<std::size_t>(inputs.tokens() * inputs.geometry.hidden));
  contract::Activations activations = inputs.activations;
  activations.output = result.output.data();
  activations.output_pitch = inputs.geometry.hidden;
  const cpu::Call call{inputs.geometry,
                       inputs.weights,
                       activations,
                       products,
                       pool,
                       sizes,
                       cpu::place_buffers(inputs.geometry, sizes, products, workspace.get())};

  std::vector<Run> all;
  all.reserve(static_cast<std::size_t>(runs));
  for (int i = 0; i < runs; ++i) all.push_back(run_once(call));
  std::sort(all.begin(), all.end(), [](const Run& a, const Run& b) { return a.seconds.total() < b.seconds.total(); });
  result.best = all.front().seconds;
  result.median = all[all.size() / 2].seconds;
  result.rows = all.front().rows;
  result.active_experts = all.front().active_experts;
  return result;
}

}  // namespace blockmoe::bench
