// draw_bench.cpp: seconds that drawing DeepSeek-V3's tensors takes, by the clock and by the processors.
//
//   draw_bench [THREADS]     0 (default) = all that the process may run on
//
// Weights are 1.41 GB of e4m3, activations those of the largest shape. "first" pays for the memory's first touch as well.
#include <fmt/format.h>

#include <chrono>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <string>

#include "workload/inputs.hpp"

namespace blockmoe::bench {
namespace {

constexpr std::int64_t kLargest = 14107;

workload::Workload row_of(std::uint64_t weights_seed, std::int64_t tokens) {
  workload::Workload row;
  row.uuid = "draw_bench";
  row.tokens = tokens;
  row.seed = 1;
  row.weights_seed = weights_seed;
  return row;
}

bool time(const std::string& what, const std::function<Result<workload::Inputs>()>& draw) {
  const auto begin = std::chrono::steady_clock::now();
  const std::clock_t cpu_begin = std::clock();
  const auto inputs = draw();
  if (!inputs.ok()) {
    fmt::print(stderr, "draw_bench: {}\n", inputs.status().message());
    return false;
  }
  const double cpu = static_cast<double>(std::clock() - cpu_begin) / CLOCKS_PER_SEC;
  const std::chrono::duration<double> wall = std::chrono::steady_clock::now() - begin;
  fmt::print("{:<38} {:6.2f} s wall {:6.2f} s of processors\n", what, wall.count(), cpu);
  return true;
}

bool time_profile(workload::Profile profile, int threads) {
  workload::InputOptions options;
  options.profile = profile;
  options.threads = threads;
  options.dataset_root.clear();
  workload::InputMaker maker(options);
  const std::string name = to_string(profile);
  return time(name + " weights, first", [&] { return maker.make(row_of(1, 0)); }) &&
         time(name + " weights, again", [&] { return maker.make(row_of(2, 0)); }) &&
         time(fmt::format("{} activations, T = {}, first", name, kLargest),
              [&] { return maker.make(row_of(2, kLargest)); }) &&
         time(fmt::format("{} activations, T = {}, again", name, kLargest),
              [&] { return maker.make(row_of(2, kLargest)); });
}

}  // namespace
}  // namespace blockmoe::bench

int main(int argc, char** argv) {
  using blockmoe::workload::Profile;
  const int threads = argc > 1 ? static_cast<int>(std::strtol(argv[1], nullptr, 10)) : 0;
  const bool good = blockmoe::bench::time_profile(Profile::official, threads) &&
                    blockmoe::bench::time_profile(Profile::model, threads);
  return good ? 0 : 1;
}
