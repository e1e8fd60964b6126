// cpu_bench.cpp: rates of the CPU backend's paths beside the machine's own, and the paths held against each other.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "contract/e4m3.h"
#include "layer.hpp"
#include "machine.hpp"
#include "product.hpp"
#include "report.hpp"

namespace blockmoe::bench {
namespace {

using cpu::InstructionSet;

constexpr InstructionSet kAll[] = {InstructionSet::plain, InstructionSet::avx2, InstructionSet::avx512_bf16,
                                   InstructionSet::amx};

struct Arguments {
  std::vector<std::string> paths;
  std::vector<std::int64_t> tokens = {1, 901, 14107};
  int threads = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  int runs = 5;
  std::string json;
  std::string commit;
};

workload::Workload row_of(std::int64_t tokens) {
  workload::Workload row;
  row.uuid = fmt::format("cpu_bench_{}", tokens);
  row.tokens = tokens;
  row.local_expert_offset = 32;
  row.seed = 1;
  return row;
}

double expert_bytes(const contract::Geometry& g) {
  return 3.0 * static_cast<double>(g.hidden * g.intermediate);
}
double row_flops(const contract::Geometry& g) {
  return 6.0 * static_cast<double>(g.hidden * g.intermediate);
}

double relative_l2(const std::vector<std::uint16_t>& a, const std::vector<std::uint16_t>& reference) {
  double error = 0;
  double norm = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double x = contract::bf16_decode(a[i]);
    const double y = contract::bf16_decode(reference[i]);
    error += (x - y) * (x - y);
    norm += y * y;
  }
  return std::sqrt(error / norm);
}

void print_run(const LayerRun& run, const contract::Geometry& g) {
  const auto line = [&](const char* name, const StageSeconds& s) {
    fmt::print(
        "    {:6} {:9.3f} ms: route {:.3f}, pack {:.3f}, gemm1 {:.3f}, gemm2 {:.3f}, combine {:.3f}; {:.1f} GFLOPS, "
        "{:.2f} GB/s of active experts\n",
        name, s.total() * 1e3, s.route * 1e3, s.pack * 1e3, s.gemm1 * 1e3, s.gemm2 * 1e3, s.combine * 1e3,
        static_cast<double>(run.rows) * row_flops(g) / s.total() * 1e-9,
        static_cast<double>(run.active_experts) * expert_bytes(g) / s.total() * 1e-9);
  };
  line("best", run.best);
  line("median", run.median);
}

void print_product(InstructionSet set) {
  constexpr double kPanelValues = double{cpu::kPanelRows} * cpu::kBlock;
  const ProductTimes times = time_product(set);
  fmt::print("cpu/{} in cache, one thread: 64 x 128 weights decoded in {:.0f} ns ({:.1f} GB/s)\n", cpu::name_of(set),
             times.decode_panel * 1e9, kPanelValues / times.decode_panel * 1e-9);
  for (const ProductTimes::Row& row : times.rows) {
    fmt::print("    {:3} rows: decoded in {:.0f} ns, multiplied in {:.0f} ns ({:.1f} GFLOPS)\n", row.rows,
               row.decode_activations * 1e9, row.multiply * 1e9, 2 * row.rows * kPanelValues / row.multiply * 1e-9);
  }
}

std::vector<InstructionSet> sets_of(const std::vector<std::string>& names) {
  std::vector<InstructionSet> sets;
  for (const InstructionSet set : kAll) {
    const bool asked = names.empty() ? set != InstructionSet::plain
                                     : std::find(names.begin(), names.end(), cpu::name_of(set)) != names.end();
    if (!asked) continue;
    if (cpu::is_available(set)) {
      sets.push_back(set);
    } else {
      fmt::print("{}: not run, this machine lacks it\n", cpu::name_of(set));
    }
  }
  return sets;
}

int run(const Arguments& arguments) {
  const std::vector<InstructionSet> sets = sets_of(arguments.paths);
  Report report{arguments.threads, arguments.runs, arguments.commit, {}};
  for (const InstructionSet set : sets) print_product(set);
  workload::InputMaker maker({});
  for (const std::int64_t tokens : arguments.tokens) {
    auto made = maker.make(row_of(tokens));
    if (!made.ok()) {
      fmt::print(stderr, "{}\n", made.status().message());
      return 2;
    }
    const workload::Inputs& inputs = made.value();
    const contract::Geometry& g = inputs.geometry;
    const auto w13_bytes = static_cast<std::size_t>(g.local_experts * 2 * g.intermediate * g.hidden);
    double read = 0;
    for (int i = 0; i < arguments.runs; ++i)
      read = std::max(read, read_rate(inputs.weights.w13, w13_bytes, arguments.threads));
    fmt::print("T = {}, {} threads, memory read {:.2f} GB/s\n", tokens, arguments.threads, read * 1e-9);

    std::vector<std::uint16_t> reference;
    for (const InstructionSet set : sets) {
      double peak = 0;
      for (int i = 0; i < 3; ++i) peak = std::max(peak, peak_flops(set, arguments.threads));
      const LayerRun result = run_layer(inputs, set, arguments.threads, arguments.runs);
      fmt::print("  cpu/{}: {} rows, {} active experts, peak of its instruction {:.1f} GFLOPS\n", cpu::name_of(set),
                 result.rows, result.active_experts, peak * 1e-9);
      print_run(result, g);
      report.rows.push_back({tokens, fmt::format("cpu/{}", cpu::name_of(set)), result.rows, result.active_experts,
                             result.median, static_cast<double>(result.rows) * row_flops(g),
                             static_cast<double>(result.active_experts) * expert_bytes(g), read, peak});
      if (reference.empty()) {
        reference = result.output;
      } else {
        fmt::print("    against cpu/{}: {}, relative L2 {:.2e}\n", cpu::name_of(sets.front()),
                   result.output == reference ? "the same bits" : "other bits", relative_l2(result.output, reference));
      }
    }
  }
  if (arguments.json.empty()) return 0;
  std::ofstream file(arguments.json);
  file << to_json(report) << std::flush;
  if (!file) fmt::print(stderr, "--json: {} can't be written\n", arguments.json);
  return file ? 0 : 1;
}

}  // namespace
}  // namespace blockmoe::bench

int main(int argc, char** argv) {
  blockmoe::bench::Arguments arguments;
  CLI::App app("Rates of the CPU backend beside the machine's own");
  app.add_option("--path", arguments.paths, "plain, avx2, avx512_bf16, amx; all but plain when left out");
  app.add_option("--tokens", arguments.tokens, "T of each call, of DeepSeek-V3's layer")->delimiter(',');
  app.add_option("--threads", arguments.threads, "Threads")->check(CLI::PositiveNumber);
  app.add_option("--runs", arguments.runs, "Runs of each call")->check(CLI::PositiveNumber);
  app.add_option("--json", arguments.json, "File for the layer's figures as JSON");
  app.add_option("--commit", arguments.commit, "Commit in the JSON");
  CLI11_PARSE(app, argc, argv);
  return blockmoe::bench::run(arguments);
}
