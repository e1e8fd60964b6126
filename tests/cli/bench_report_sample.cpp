// bench_report_sample.cpp: the JSON of a made-up `bench` run, so that its form is tested where there is no GPU.
//
// bench_report_sample GPU READ_GBPS FP8_TFLOPS BLOCKWISE_TFLOPS [MAX_LOCAL_PICKS]
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "bench_report.hpp"
#include "ceilings.hpp"

int main(int argc, char** argv) {
  using blockmoe::cli::BenchReport;
  using blockmoe::cli::BenchRow;
  using blockmoe::cli::BenchTime;
  if (argc != 5 && argc != 6) return 2;
  BenchReport report;
  report.machine = {argv[1], "580.159.04", "13.0", "a processor"};
  report.date = "2026-11-22T20:24:27Z";
  report.commit = "abc1234";
  report.command = "blockmoe bench --tokens 1";
  report.profile = "official";
  report.routing = "zipf:1.2";
  report.method = "made up";
  report.read_gbps = std::strtod(argv[2], nullptr);
  report.fp8_tflops = std::strtod(argv[3], nullptr);
  report.blockwise_tflops = std::strtod(argv[4], nullptr);
  if (argc == 6) report.pruning.max_local_picks = static_cast<std::int32_t>(std::strtol(argv[5], nullptr, 10));
  blockmoe::cli::judge_ceilings(report);

  BenchRow row;
  row.tokens = 1;
  row.active_experts = 3;
  row.rows = 3;
  row.path = "portable/narrow";
  row.read_us = row.floor_us = 32;
  row.graph = {64, 60, 70};
  row.flops = 3 * 88.1e6;
  report.rows.push_back(row);
  row.eager = BenchTime{80, 75, 90};
  row.stages_us = {{"route", 5}, {"gemm1", 30}};
  report.rows.push_back(row);
  const std::string text = to_json(report).dump(2);
  return std::puts(text.c_str()) < 0 ? 1 : 0;
}
