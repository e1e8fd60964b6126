// verify.cpp: `blockmoe verify`: is an implementation right on the benchmark's shapes, and how fast?
//
// The implementation is this library, checked by the oracle, or somebody else's behind a command (--agent-cmd), or is
// only read of in the rows (--metadata).
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "benchmark_csv.hpp"
#include "command_template.hpp"
#include "commands.hpp"
#include "error.hpp"
#include "library_check.hpp"
#include "measurement.hpp"
#include "options.hpp"
#include "output_file.hpp"
#include "progress.hpp"
#include "report.hpp"
#include "sources.hpp"
#include "table.hpp"
#include "workload_file.hpp"

namespace blockmoe::cli {
namespace {

using workload::Workload;

struct VerifyOptions {
  std::string workloads;
  Selection selection;
  bool metadata = false;
  bool baseline = false;
  std::string agent_cmd;
  std::string baseline_cmd;
  double cmd_timeout_s = 600;
  Tolerances tolerances;
  std::string oracle = "auto";
  BackendOptions backend;
  DrawOptions draw;
  std::string dump_json;
  std::string append_benchmark;
  std::string solution_name = "blockmoe";
  std::string commit;
  bool quiet = false;
};

using Seconds = std::chrono::duration<double>;

constexpr const char* kVerifyFooter =
    R"(Without --all or --uuid only rows of split dev run (rows that name no split are dev).
A row passes when at least --required-matched-ratio of the elements lie within --atol or --rtol of the oracle, no NaN or
Inf stands where the oracle has none, the relative L2 errors are within the gates of the numerics contract, and repeated
calls give the same bits.

Examples:
  blockmoe verify --all                          the 19 shapes of the benchmark, on a GPU if there is one
  blockmoe verify --uuid 5e8dc11c --device cpu --oracle full  one shape on the CPU, every token checked
  blockmoe verify --all --profile model --dump-json verify.json
  blockmoe verify --workloads rows.jsonl --all --agent-cmd 'python3 agent.py --tokens {T} --row {workload_json}'
  blockmoe verify --workloads results.jsonl --all --metadata --baseline --append-benchmark history.csv --commit abc123)";

void add_options(CLI::App& app, VerifyOptions& o) {
  app.add_option("--workloads", o.workloads, "JSONL file of workloads; without it, the benchmark's 19 shapes")
      ->type_name("FILE")
      ->group("Workloads");
  app.add_flag("--all", o.selection.all, "Rows of every split, not of dev alone")->group("Workloads");
  app.add_option("--uuid", o.selection.uuids,
                 "This row, of whatever split; a beginning that one row has will do; repeatable")
      ->type_name("U")
      ->allow_extra_args(false)
      ->group("Workloads");
  o.draw.add(app);
  o.backend.add(app);

  app.add_option(
         "--oracle", o.oracle,
         "Tokens that the oracle computes: sample (64 and those of unusual routing), full (all) or auto (full on "
         "a GPU, sample on the CPU)")
      ->type_name("WORD")
      ->check(one_of({"auto", "sample", "full"}))
      ->capture_default_str()
      ->group("Correctness");
  app.add_option("--atol", o.tolerances.atol, "An element may be this far from the oracle, or")
      ->type_name("X")
      ->check(finite_from(0))
      ->capture_default_str()
      ->group("Correctness");
  app.add_option("--rtol", o.tolerances.rtol, "this far, as a share of its value")
      ->type_name("X")
      ->check(finite_from(0))
      ->capture_default_str()
      ->group("Correctness");
  app.add_option("--required-matched-ratio", o.tolerances.required_matched_ratio, "Share of elements that must be so")
      ->type_name("X")
      ->check(finite_in(0, 1))
      ->capture_default_str()
      ->group("Correctness");

  app.add_option(
         "--agent-cmd", o.agent_cmd,
         "Verify what this command says instead of this library. {KEY} stands for the row's value, {workload_json} "
         "for the row, {{ }} for braces. Run by /bin/sh; prints a line of JSON with passed and latency_us")
      ->type_name("TEMPLATE")
      ->group("Commands and metadata");
  app.add_flag("--baseline", o.baseline,
               "Compare times with the rows' baseline_latency_us, where no --baseline-cmd is given")
      ->group("Commands and metadata");
  app.add_option("--baseline-cmd", o.baseline_cmd, "Compare times with what this command says; as --agent-cmd")
      ->type_name("TEMPLATE")
      ->group("Commands and metadata");
  app.add_option("--cmd-timeout", o.cmd_timeout_s, "Seconds that a command may take for one row")
      ->type_name("S")
      ->check(finite_from(0.001))
      ->capture_default_str()
      ->group("Commands and metadata");
  app.add_flag("--metadata", o.metadata,
               "Rows that carry agent_latency_us or baseline_latency_us are read (with their passed), not run")
      ->group("Commands and metadata");

  app.add_option("--dump-json", o.dump_json, "Write the report as JSON")->type_name("FILE")->group("Reports");
  app.add_option("--append-benchmark", o.append_benchmark, "Append a line a row; a new file gets the header line")
      ->type_name("CSV")
      ->group("Reports");
  app.add_option("--solution-name", o.solution_name, "Name in the CSV")
      ->type_name("NAME")
      ->capture_default_str()
      ->group("Reports");
  app.add_option("--commit", o.commit, "Commit in the reports")->type_name("ID")->group("Reports");
  app.add_flag("--quiet", o.quiet, "Print the line with the number passed and nothing else")->group("Reports");
}

// A line is there as soon as it is known, whoever reads it.
void print(const std::string& text) {
  fmt::print("{}", text);
  std::fflush(stdout);
}

void check_output_options(const VerifyOptions& o) {
  if (!o.dump_json.empty()) require_writable("--dump-json", o.dump_json);
  if (!o.append_benchmark.empty()) require_benchmark_csv("--append-benchmark", o.append_benchmark);
}

// Both sides of the comparison, each an ordered list of sources, and the words that the report has for them.
struct Sides {
  std::vector<Source> agent;
  std::vector<Source> baseline;
  std::string reference;
  std::optional<std::string> speed_baseline;
  std::unique_ptr<LibraryCheck> library;  // null where no row needs it
};

bool carries_agent(const Workload& row) {
  return row.agent_latency_us.has_value();
}
bool carries_baseline(const Workload& row) {
  return row.baseline_latency_us.has_value();
}

std::string joined(const std::vector<std::string>& parts) {
  return fmt::format("{}", fmt::join(parts, "; "));
}

Measurement failure(const std::string& why) {
  Measurement found;
  found.why_failed = why;
  found.detail = {{"error", why}};
  return found;
}

std::optional<verify::OracleScope> scope_of(const std::string& word) {
  if (word == "auto") return std::nullopt;
  return word == "full" ? verify::OracleScope::full : verify::OracleScope::sample;
}

void add_agent(const VerifyOptions& o, const std::vector<Workload>& rows, Sides& sides) {
  std::vector<std::string> references;
  if (o.metadata && std::any_of(rows.begin(), rows.end(), carries_agent)) {
    sides.agent.push_back(agent_metadata());
    references.emplace_back("not checked here: as the workload file says");
  }
  const bool all_read = o.metadata && std::all_of(rows.begin(), rows.end(), carries_agent);
  if (!o.agent_cmd.empty()) {
    sides.agent.push_back(command_source(CommandTemplate("--agent-cmd", o.agent_cmd), Seconds(o.cmd_timeout_s), rows));
    references.emplace_back("not checked here: as --agent-cmd says");
  } else if (!all_read) {
    const Tolerances& t = o.tolerances;
    sides.library = std::make_unique<LibraryCheck>(o.backend, o.draw, scope_of(o.oracle),
                                                   verify::Tolerance{t.atol, t.rtol, t.required_matched_ratio});
    sides.agent.emplace_back([library = sides.library.get()](const Workload& row, Progress& progress) {
      try {
        return std::optional(library->measure(row, progress));
      } catch (const RunError& error) {
        return std::optional(failure(error.what()));
      }
    });
    references.push_back(sides.library->reference());
  }
  sides.reference = joined(references);
}

void add_baseline(const VerifyOptions& o, const std::vector<Workload>& rows, Sides& sides) {
  std::vector<std::string> names;
  const bool any_carries = std::any_of(rows.begin(), rows.end(), carries_baseline);
  const bool has_command = !o.baseline_cmd.empty();
  if (any_carries && (o.metadata || (o.baseline && !has_command))) {
    sides.baseline.push_back(baseline_metadata());
    names.emplace_back("the workload file's baseline_latency_us");
  }
  if (has_command) {
    sides.baseline.push_back(
        command_source(CommandTemplate("--baseline-cmd", o.baseline_cmd), Seconds(o.cmd_timeout_s), rows));
    names.emplace_back("--baseline-cmd");
  }
  if (!names.empty()) sides.speed_baseline = joined(names);
  if (o.baseline && names.empty()) {
    throw InputError("--baseline: no selected row carries baseline_latency_us; give a --baseline-cmd");
  }
}

struct Outcome {
  Row row;
  std::optional<Check> check;
  bool baseline_failed = false;
};

Outcome verify_row(const Workload& workload, const Sides& sides, Progress& progress) {
  Outcome outcome;
  Row& row = outcome.row;
  row.uuid = workload.uuid;
  row.tokens = workload.tokens;
  row.split = workload.split;

  Measurement agent = ask(sides.agent, workload, progress).value();
  row.passed = agent.passed;
  row.agent_latency_us = agent.latency_us;
  row.agent = std::move(agent.detail);
  row.note = std::move(agent.why_failed);
  if (agent.check) row.pruning_cost = agent.check->pruning_cost;
  outcome.check = std::move(agent.check);

  if (std::optional<Measurement> baseline = ask(sides.baseline, workload, progress)) {
    outcome.baseline_failed = !baseline->passed;
    row.baseline = std::move(baseline->detail);
    if (baseline->passed) {
      row.baseline_latency_us = baseline->latency_us;
    } else {
      row.note += (row.note.empty() ? "no baseline: " : "; no baseline: ") + baseline->why_failed;
    }
  }
  return outcome;
}

// The baseline's own name, where all that it said of itself agrees.
std::optional<std::string> named(const std::optional<std::string>& speed_baseline, const std::vector<Row>& rows) {
  std::set<std::string> names;
  for (const Row& row : rows) {
    const auto name = row.baseline.is_object() ? row.baseline.find("name") : row.baseline.end();
    if (name != row.baseline.end() && name->is_string()) names.insert(name->get<std::string>());
  }
  if (!speed_baseline || names.size() != 1) return speed_baseline;
  return fmt::format("{} ({})", *names.begin(), *speed_baseline);
}

std::vector<std::string> remarks_of(const Sides& sides) {
  if (!sides.library) return {};
  const verify::Gates& gates = sides.library->gates();
  std::vector<std::string> remarks{
      fmt::format("gates: relative L2 at most {} where the oracle requantises, {} where it does not", gates.requantised,
                  gates.plain),
      fmt::format("tokens of unusual routing (ties, NaN, Inf): {}, {} of them checked", sides.library->unusual().tokens,
                  sides.library->unusual().checked),
      "latency: median of " + sides.library->timing()};
  for (const std::string& note : sides.library->notes()) remarks.push_back("note: " + note);
  return remarks;
}

void write_reports(const VerifyOptions& o, const Report& report, const std::filesystem::path& file) {
  if (!o.dump_json.empty()) replace_file(o.dump_json, to_json(report).dump(2) + '\n');
  if (o.append_benchmark.empty()) return;
  append_benchmark_csv(o.append_benchmark, report, {o.commit, o.solution_name, file.stem().string()});
}

// The device that ran; of a command or of metadata nothing is known but that it was this machine, with its first GPU.
DeviceInfo device_of(const Sides& sides) {
  if (sides.library) return sides.library->device();
  const Result<DeviceInfo> gpu = query_device({DeviceType::cuda, 0});
  return gpu.ok() ? gpu.value() : value_or_raise(query_device(Device{}));
}

int run_verify(const VerifyOptions& o, const std::string& command) {
  const std::chrono::steady_clock::time_point start = std::chrono::steady_clock::now();
  check_output_options(o);
  const WorkloadFile file = find_workload_file(o.workloads);
  const std::vector<Workload> rows = read_rows(file, o.selection);
  Sides sides;
  add_agent(o, rows, sides);
  add_baseline(o, rows, sides);

  Report report;
  report.timestamp = utc_timestamp();
  report.machine = machine_with(device_of(sides));
  report.commit = o.commit;
  report.command = command;
  report.workload_file = file.shown;
  report.tolerances = o.tolerances;
  report.reference = sides.reference;
  report.speed_baseline = sides.speed_baseline;
  if (sides.library) report.pruning = o.backend.pruning;

  const Table table(rows, sides.library != nullptr, !mark_of(report.pruning).empty());
  Progress progress(!o.quiet);
  if (!o.quiet) print(table.header());
  bool baseline_failed = false;
  for (const Workload& workload : rows) {
    progress.begin(fmt::format("{}/{} {} T={}", report.rows.size() + 1, rows.size(), workload.uuid, workload.tokens));
    const Outcome outcome = verify_row(workload, sides, progress);
    baseline_failed = baseline_failed || outcome.baseline_failed;
    progress.clear();
    if (!o.quiet) print(table.line(outcome.row, outcome.check));
    report.rows.push_back(outcome.row);
  }
  if (sides.library) report.notes = sides.library->notes();
  report.speed_baseline = named(sides.speed_baseline, report.rows);
  report.wall_s = Seconds(std::chrono::steady_clock::now() - start).count();
  print(o.quiet ? verdict(report) : summary(report, remarks_of(sides)));
  write_reports(o, report, file.path);
  return report.all_passed() && !baseline_failed ? kAllPassed : kSomethingFailed;
}

}  // namespace

Command add_verify(CLI::App& app) {
  app.description("Check an implementation on the benchmark's shapes, and time it.");
  app.footer(kVerifyFooter);
  const auto options = std::make_shared<VerifyOptions>();
  add_options(app, *options);
  return [options, &app] { return run_verify(*options, command_line(app)); };
}

}  // namespace blockmoe::cli
