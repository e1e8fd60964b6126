// bench_gpu.hpp: the measurements of `bench`. In a build without CUDA the constructor throws InputError.
#pragma once

#include <cstdint>
#include <memory>

#include "bench_report.hpp"
#include "blockmoe/moe.hpp"
#include "progress.hpp"
#include "workload/inputs.hpp"
#include "workload/workload.hpp"

namespace blockmoe::cli {

struct BenchTiming {
  int runs = 30;
  int warmup = 3;
  bool eager = false;
  bool stages = false;
};

class GpuBench {
 public:
  GpuBench(const DeviceInfo& device, const Options& options, const workload::InputOptions& inputs,
           const BenchTiming& timing);
  ~GpuBench();

  // Fills the report's machine, method, ceilings and, where a ceiling is missing or too low for the part, its notes.
  void measure_ceilings(BenchReport& report, Progress& progress);

  // One row, against the report's ceilings. Throws InputError or RunError.
  BenchRow measure(const workload::Workload& workload, const BenchReport& report, Progress& progress);

  // The row's inputs, of whose first tokens measure_first() makes calls.
  void draw(const workload::Workload& workload, Progress& progress);

  // As measure(), of a call of the first `tokens` tokens of what was drawn. Calls whose active experts are the same ones
  // share one reading of the floor. Throws InputError or RunError.
  BenchRow measure_first(std::int64_t tokens, const BenchReport& report, Progress& progress);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace blockmoe::cli
