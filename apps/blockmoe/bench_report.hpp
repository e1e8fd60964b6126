// bench_report.hpp: what `bench` measured, and its three forms: a table, Markdown, and JSON that others read.
//
// The JSON's keys of schema 1 keep their names and units; keys may be added.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "machine.hpp"
#include "pruning_report.hpp"

namespace blockmoe::cli {

// Microseconds over the timed runs.
struct BenchTime {
  double median_us = 0;
  double p10_us = 0;
  double p90_us = 0;
};

struct BenchRow {
  std::int64_t tokens = 0;  // T
  std::int32_t active_experts = 0;
  std::int64_t rows = 0;  // local picks of all tokens
  std::string path;
  double floor_us = 0;                      // max(read of the active experts' weights, flops at the dense FP8 rate)
  double read_us = 0;                       // the first of the two
  BenchTime graph;                          // one whole call
  std::optional<BenchTime> eager;           // the same without a graph
  std::map<std::string, double> stages_us;  // each stage alone; empty where not asked for
  double flops = 0;                         // of both products on the rows

  double ratio() const { return floor_us > 0 ? graph.median_us / floor_us : 0; }
  double tflops() const { return graph.median_us > 0 ? flops / graph.median_us * 1e-6 : 0; }
};

struct BenchReport {
  Machine machine;
  std::string date, commit, command, profile, routing, method;
  Pruning pruning;
  double read_gbps = 0;            // all local experts' weights by the best reader
  double fp8_tflops = 0;           // dense 8192^3, in bursts; 0 where not measured
  double blockwise_tflops = 0;     // the same with 1x128 and 128x128 scales
  bool is_void = false;            // a ceiling is too low for the card: the figures say nothing
  std::vector<std::string> notes;  // why a ceiling is missing or the run is void
  std::vector<BenchRow> rows;
};

nlohmann::ordered_json to_json(const BenchReport& report);
std::string to_markdown(const BenchReport& report);

// For the terminal: the header, and a line as soon as a row is known.
std::string bench_header(bool with_eager);
std::string bench_line(const BenchRow& row);
// What stands below the rows: ceilings and notes.
std::string bench_summary(const BenchReport& report);

}  // namespace blockmoe::cli
