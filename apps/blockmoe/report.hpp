// report.hpp: what `verify` found, and its two forms for machines.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "machine.hpp"
#include "pruning_report.hpp"

namespace blockmoe::cli {

// One workload.
struct Row {
  std::string uuid;
  std::int64_t tokens = 0;  // T
  std::string split;
  bool passed = false;
  std::optional<double> agent_latency_us;     // of what is being verified
  std::optional<double> baseline_latency_us;  // of what it is compared with
  nlohmann::ordered_json agent;               // an object: details, whatever their source; null where there are none
  nlohmann::ordered_json baseline;
  std::string note;  // one line for a person: why it failed
  std::optional<PruningCost> pruning_cost;

  std::optional<double> speedup_vs_baseline() const;
};

// From this T on a shape is large, as in the original system's table.
inline constexpr std::int64_t kLeastLargeTokens = 901;

// Of the rows that have both times.
struct SpeedComparison {
  std::optional<double> ratio_of_means;  // mean of the baseline / mean of what is verified
  std::optional<double> mean_speedup;    // mean of the rows' speedups
  const Row* least = nullptr;            // the row of least speedup
  std::optional<double>
      large_speedup;  // sum of the baseline / sum of what is verified, rows with T >= kLeastLargeTokens
};

struct Tolerances {
  double atol = 1.0;
  double rtol = 0.3;
  double required_matched_ratio = 0.9;
};

struct Report {
  std::string timestamp;  // UTC, ISO 8601
  Machine machine;
  std::string commit;   // as --commit says
  std::string command;  // command_line()
  std::string workload_file;
  Tolerances tolerances;
  std::string reference;                      // what the outputs were compared with
  std::optional<std::string> speed_baseline;  // what the times were compared with
  std::vector<Row> rows;
  Pruning pruning;                 // of what this library ran
  std::vector<std::string> notes;  // what a reader must know: what was drawn, what was not checked
  double wall_s = 0;               // of the whole command

  std::size_t passed_count() const;
  bool all_passed() const;
  // Means over the rows that have the figure; absent where none has.
  std::optional<double> agent_mean_us() const;
  std::optional<double> baseline_mean_us() const;
  SpeedComparison speed_comparison() const;
};

// The present time as Report::timestamp.
std::string utc_timestamp();

// The form that tests/cli/verify.schema.json describes.
nlohmann::ordered_json to_json(const Report& report);

}  // namespace blockmoe::cli
