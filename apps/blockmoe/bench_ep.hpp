// bench_ep.hpp: `bench --ep`: the layer over the GPUs of this machine, a thread and an NCCL rank each, beside the operator's own
// time on the same rows; and its two forms, a table and JSON.
//
// The JSON: schema 1 of its own, told from bench's by "ranks" in place of "ceilings". All times are microseconds.
//   machine, date, commit, command, method, notes   as of bench
//   ranks, nccl     GPUs, and NCCL's version
//   fault           what the other ranks' check() said of a rank that did not call; "" where it was not tried
//   rows[]: T (a rank), way, us (a call, the slowest rank), operator_us (one rank's operator on all ranks' tokens, the slowest
//           rank's in each replay), over_us (the difference), stages_us {route, exchange, products, return, sum} each alone,
//           predicted_us {route, exchange, products, return, total} by the cost model, relative_l2 (to one GPU with all experts,
//           the worst rank), repeatable (the same bits twice); compute_us (route, products and sum with no message between
//           them); of an exchange also serial_us (on one stream), hidden (1 - (us - compute_us) / (serial_us - compute_us))
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "blockmoe/moe.hpp"
#include "machine.hpp"

namespace blockmoe::cli {

struct EpBenchOptions {
  std::int32_t ranks = 2;
  std::vector<std::int64_t> tokens;  // of a rank
  std::int32_t pieces = 0;           // of an exchange; 0: the library's choice
  std::int32_t comm_sms = 0;         // left to NCCL, at least
  int runs = 30;
  bool fault = false;  // in the end one rank doesn't call
};

struct EpBenchRow {
  std::int64_t tokens = 0;
  std::string way;
  double us = 0;
  double operator_us = 0;
  double compute_us = 0;
  double serial_us = 0;  // 0: no exchange
  std::map<std::string, double> stages_us;
  std::map<std::string, double> predicted_us;
  double relative_l2 = 0;
  bool repeatable = false;

  double hidden() const;
};

struct EpBenchReport {
  Machine machine;
  std::string date, commit, command, method, fault;
  std::int32_t ranks = 0;
  std::int32_t nccl = 0;  // as ncclGetVersion() gives it
  std::vector<std::string> notes;
  std::vector<EpBenchRow> rows;
};

// Fills all but date, commit and command. `done` is called with each row. Throws InputError where there are fewer GPUs, no NCCL or
// no CUDA in this build. A rank that fails ends the process: the others wait for it.
void measure_ep(const EpBenchOptions& options, const Options& plan_options, EpBenchReport& report,
                const std::function<void(const EpBenchRow&)>& done);

nlohmann::ordered_json to_json(const EpBenchReport& report);
std::string ep_bench_header();
std::string ep_bench_line(const EpBenchRow& row);

}  // namespace blockmoe::cli
