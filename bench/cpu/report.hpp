// report.hpp: the figures of cpu_bench as JSON, to stand in bench/results beside those of `blockmoe bench`.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "layer.hpp"

namespace blockmoe::bench {

struct Row {
  std::int64_t tokens = 0;  ///< T
  std::string path;
  std::int64_t rows = 0;
  std::int64_t active_experts = 0;
  StageSeconds seconds;     ///< of the median run
  double flops = 0;         ///< of the call
  double weight_bytes = 0;  ///< of its active experts
  double read_rate = 0;     ///< bytes/s of the machine
  double peak_flops = 0;    ///< FLOP/s of the path's instruction; 0 where there is none to measure
};

struct Report {
  int threads = 0;
  int runs = 0;
  std::string commit;
  std::vector<Row> rows;
};

/// {"schema", "machine": {"cpu", "threads", "physical_cores"}, "date", "commit", "method", "rows": [{"T", "path", "rows",
/// "active_experts", "seconds": {STAGE: s, "total"}, "gflops", "weights_gbps", "read_gbps", "peak_gflops"}]}
std::string to_json(const Report& report);

}  // namespace blockmoe::bench
