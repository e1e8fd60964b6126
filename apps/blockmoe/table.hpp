// table.hpp: `verify` for people: a line a shape as it is done, then the sums.
#pragma once

#include <string>
#include <vector>

#include "measurement.hpp"
#include "report.hpp"
#include "workload/workload.hpp"

namespace blockmoe::cli {

class Table {
 public:
  // `with_check`: the columns of the oracle's findings. `with_pruning`: those of what pruning cost.
  Table(const std::vector<workload::Workload>& workloads, bool with_check, bool with_pruning);

  std::string header() const;
  // Ends with a line that says why, where the row failed.
  std::string line(const Row& row, const std::optional<Check>& check) const;

 private:
  std::size_t uuid_width_;
  bool with_check_;
  bool with_pruning_;
};

// The times beside the baseline's, a line a shape, and their sums; empty where nothing is compared.
std::string comparison_table(const Report& report);

// "19/19 passed" and the lines that say what that means; `remarks` are sentences that follow them.
std::string summary(const Report& report, const std::vector<std::string>& remarks);

// The first of those lines.
std::string verdict(const Report& report);

}  // namespace blockmoe::cli
