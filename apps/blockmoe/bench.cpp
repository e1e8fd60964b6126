// bench.cpp: `blockmoe bench`: how long one call of the operator takes on a GPU, beside the floor of the same run.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "bench_ep.hpp"
#include "bench_gpu.hpp"
#include "bench_report.hpp"
#include "commands.hpp"
#include "error.hpp"
#include "options.hpp"
#include "output_file.hpp"
#include "progress.hpp"
#include "report.hpp"
#include "workload/token_range.hpp"
#include "workload_file.hpp"

namespace blockmoe::cli {
namespace {

constexpr const char* kBenchFooter =
    R"(One call, routing to combine, is captured as a CUDA graph and replayed on a flushed L2 (256 MiB written, then 256 MiB
of something else read). floor = max(read of the active experts' weights by the best plain reader, flops at the rate of
a dense FP8 product), both measured in the same run. stages: each stage's launches by themselves, flushed too, so
they add up to more than the call; route+pack+..., the call up to a stage.

Examples:
  blockmoe bench --all                               the 19 shapes of the benchmark
  blockmoe bench --tokens 1 --tokens 64 --stages     two sizes, stage by stage
  blockmoe bench --sweep 1..300 --sweep 300..16384/64 --json sweep.json
                                                     every T to 300, then 64 steps: is there a jump?
  blockmoe bench --ep --ranks 2 --backend hopper     the layer over two GPUs
  blockmoe bench --all --routing zipf --json bench.json --markdown bench.md --commit abc123)";

struct BenchOptions {
  std::string workloads;
  Selection selection;
  std::vector<std::int64_t> tokens;
  std::vector<std::string> sweep;
  DrawOptions draw;
  BackendOptions backend;
  BenchTiming timing;
  std::string json;
  std::string markdown;
  std::string commit;
  bool quiet = false;
  bool ep = false;
  EpBenchOptions over_ranks;
};

// The gate of tensor cores (docs/numerics.md), of one GPU with every expert as the reference.
constexpr double kEpGate = 0.005;

const std::vector<std::int64_t> kEpTokens = {1, 2, 4, 8, 16, 32, 64, 128, 512, 2048, 4096, 8192};

void add_options(CLI::App& app, BenchOptions& o) {
  o.backend.device = "cuda";
  CLI::Option* const workloads =
      app.add_option("--workloads", o.workloads, "JSONL file of workloads; without it, the benchmark's 19 shapes")
          ->type_name("FILE")
          ->group("Workloads");
  CLI::Option* const all =
      app.add_flag("--all", o.selection.all, "Rows of every split, not of dev alone")->group("Workloads");
  CLI::Option* const uuid = app.add_option("--uuid", o.selection.uuids, "This row; repeatable")
                                ->type_name("U")
                                ->allow_extra_args(false)
                                ->group("Workloads");
  app.add_option("--tokens", o.tokens, "A drawn call of T tokens of DeepSeek-V3's layer instead of rows; repeatable")
      ->type_name("T")
      ->allow_extra_args(false)
      ->check(whole_number(0, contract::kMaxTokens))
      ->excludes(workloads)
      ->excludes(all)
      ->excludes(uuid)
      ->group("Workloads");
  CLI::Option* const sweep =
      app.add_option("--sweep", o.sweep,
                     "Calls of the first T tokens of one drawn call: every T of A..B, or of A..B/N the N sizes above A "
                     "to B, each the same factor more; repeatable")
          ->type_name("RANGE")
          ->allow_extra_args(false)
          ->check(token_range())
          ->group("Workloads");
  for (const char* other : {"--workloads", "--all", "--uuid", "--tokens"}) sweep->excludes(app.get_option(other));
  o.draw.add(app);
  o.backend.add(app);
  app.add_option("--runs", o.timing.runs, "Timed replays of each call")
      ->check(whole_number(1, 10000))
      ->capture_default_str()
      ->group("Timing");
  app.add_option("--warmup", o.timing.warmup, "Replays before them")
      ->check(whole_number(0, 1000))
      ->capture_default_str()
      ->group("Timing");
  app.add_flag("--eager", o.timing.eager, "Time the call without a graph too")->group("Timing");
  app.add_flag("--stages", o.timing.stages, "Time each stage alone, and the call up to each stage")->group("Timing");
  CLI::Option* const ep =
      app.add_flag("--ep", o.ep, "The layer over several GPUs of this machine, T tokens of --tokens on each")
          ->excludes(workloads)
          ->excludes(all)
          ->excludes(uuid)
          ->excludes(sweep)
          ->group("Expert parallel");
  // A layer of DeepSeek-V3 is drawn as it always is there, and each stage is timed.
  for (const char* other : {"--profile", "--routing", "--seed", "--device", "--max-local-picks", "--min-weight-share",
                            "--warmup", "--eager", "--stages"}) {
    ep->excludes(app.get_option(other));
  }
  app.add_option("--ranks", o.over_ranks.ranks, "GPUs")
      ->check(whole_number(1, 64))
      ->capture_default_str()
      ->needs(ep)
      ->group("Expert parallel");
  app.add_option("--pieces", o.over_ranks.pieces, "Pieces of an exchange; 0 = the library's choice")
      ->check(whole_number(0, 8))
      ->capture_default_str()
      ->needs(ep)
      ->group("Expert parallel");
  app.add_option("--comm-sms", o.over_ranks.comm_sms, "Multiprocessors left to NCCL beside products, at least")
      ->check(whole_number(0, 128))
      ->capture_default_str()
      ->needs(ep)
      ->group("Expert parallel");
  app.add_flag("--fault", o.over_ranks.fault, "In the end one rank doesn't call: what the others are told")
      ->needs(ep)
      ->group("Expert parallel");
  app.add_option("--json", o.json, "Write the figures as JSON")->type_name("FILE")->group("Reports");
  app.add_option("--markdown", o.markdown, "Write the figures as a Markdown table")
      ->type_name("FILE")
      ->group("Reports");
  app.add_option("--commit", o.commit, "Commit in the reports")->group("Reports");
  app.add_flag("--quiet", o.quiet, "Print nothing but the ceilings and notes")->group("Reports");
}

workload::Workload drawn_row(std::int64_t tokens) {
  workload::Workload row;
  row.uuid = fmt::format("T{}", tokens);
  row.tokens = tokens;
  return row;
}

std::vector<workload::Workload> rows_of(const BenchOptions& o) {
  if (o.tokens.empty()) return read_rows(find_workload_file(o.workloads), o.selection);
  std::vector<workload::Workload> rows;
  rows.reserve(o.tokens.size());
  for (const std::int64_t tokens : o.tokens) rows.push_back(drawn_row(tokens));
  return rows;
}

// Ascending, each once.
std::set<std::int64_t> sizes_of(const std::vector<std::string>& ranges) {
  std::set<std::int64_t> sizes;
  for (const std::string& range : ranges) {
    const std::vector<std::int64_t> of_range = value_or_raise(workload::parse_token_range(range));
    sizes.insert(of_range.begin(), of_range.end());
  }
  return sizes;
}

int run_ep_bench(const BenchOptions& o, const std::string& command) {
  EpBenchOptions options = o.over_ranks;
  options.tokens = o.tokens.empty() ? kEpTokens : o.tokens;
  options.runs = o.timing.runs;
  EpBenchReport report;
  report.date = utc_timestamp();
  report.commit = o.commit;
  report.command = command;
  measure_ep(options, o.backend.plan_options(), report, [&](const EpBenchRow& row) {
    if (o.quiet) return;
    fmt::print("{}{}", report.rows.size() == 1 ? ep_bench_header() : "", ep_bench_line(row));
    std::fflush(stdout);
  });
  if (!report.fault.empty()) fmt::print("fault: {}\n", report.fault);
  if (!o.json.empty()) replace_file(o.json, to_json(report).dump(2) + '\n');
  const bool all_passed = std::all_of(report.rows.begin(), report.rows.end(), [](const EpBenchRow& row) {
    return row.repeatable && row.relative_l2 <= kEpGate;
  });
  return all_passed ? kAllPassed : kSomethingFailed;
}

int run_bench(const BenchOptions& o, const std::string& command) {
  if (o.ep && !o.markdown.empty()) refuse("--markdown", "given beside --ep", "--json");
  for (const auto& [option, path] : {std::pair("--json", o.json), std::pair("--markdown", o.markdown)})
    if (!path.empty()) require_writable(option, path);
  if (o.ep) return run_ep_bench(o, command);
  const std::set<std::int64_t> sizes = sizes_of(o.sweep);
  std::vector<workload::Workload> rows = sizes.empty() ? rows_of(o) : std::vector{drawn_row(*sizes.rbegin())};
  for (workload::Workload& row : rows) o.draw.apply_seed(row);
  const DeviceInfo device = o.backend.device_info();

  BenchReport report;
  report.date = utc_timestamp();
  report.commit = o.commit;
  report.command = command;
  report.profile = o.draw.profile;
  report.routing = o.draw.routing;
  report.pruning = o.backend.pruning;
  Progress progress(!o.quiet);
  GpuBench bench(device, o.backend.plan_options(), o.draw.input_options(o.backend.threads), o.timing);
  if (!o.quiet) fmt::print("{}", bench_header(o.timing.eager));
  bench.measure_ceilings(report, progress);
  const std::size_t count = sizes.empty() ? rows.size() : sizes.size();
  const auto add = [&](std::int64_t tokens, const auto& measure) {
    progress.begin(fmt::format("{}/{} T={}", report.rows.size() + 1, count, tokens));
    report.rows.push_back(measure());
    progress.clear();
    if (!o.quiet) fmt::print("{}", bench_line(report.rows.back()));
    std::fflush(stdout);
  };
  if (sizes.empty()) {
    for (const workload::Workload& row : rows) add(row.tokens, [&] { return bench.measure(row, report, progress); });
  } else {
    bench.draw(rows.front(), progress);
    for (const std::int64_t tokens : sizes) add(tokens, [&] { return bench.measure_first(tokens, report, progress); });
  }
  fmt::print("{}", bench_summary(report));
  if (!o.json.empty()) replace_file(o.json, to_json(report).dump(2) + '\n');
  if (!o.markdown.empty()) replace_file(o.markdown, to_markdown(report));
  return kAllPassed;
}

}  // namespace

Command add_bench(CLI::App& app) {
  app.description("Time the operator on a GPU, beside the floor of the same run.");
  app.footer(kBenchFooter);
  const auto options = std::make_shared<BenchOptions>();
  add_options(app, *options);
  return [options, &app] { return run_bench(*options, command_line(app)); };
}

}  // namespace blockmoe::cli
