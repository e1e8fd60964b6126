// benchmark_csv.hpp: the history of benchmark figures that `verify --append-benchmark` keeps: a line a workload.
#pragma once

#include <filesystem>
#include <string>

#include "report.hpp"

namespace blockmoe::cli {

struct BenchmarkLabels {
  std::string commit;
  std::string solution_name;
  std::string workload_set;  // the workload file's name without folder and ending
};

// Throws InputError when `path` cannot be written or holds something else: called before the work.
void require_benchmark_csv(const std::string& option, const std::filesystem::path& path);

// Appends all rows at once; the header line comes first in a new or empty file. Processes may append at the same time.
void append_benchmark_csv(const std::filesystem::path& path, const Report& report, const BenchmarkLabels& labels);

}  // namespace blockmoe::cli
