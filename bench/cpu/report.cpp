#include "report.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <ctime>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "blockmoe/moe.hpp"

namespace blockmoe::bench {
namespace {

using nlohmann::ordered_json;

/// Of the whole machine, as Linux tells it; null where it doesn't.
ordered_json physical_cores() {
  std::set<std::pair<std::string, std::string>> cores;
  std::string package;
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const std::string value = line.substr(line.find(':') + 1);
    if (line.starts_with("physical id")) package = value;
    if (line.starts_with("core id")) cores.emplace(package, value);
  }
  return cores.empty() ? ordered_json(nullptr) : ordered_json(cores.size());
}

ordered_json to_json(const Row& row) {
  const StageSeconds& s = row.seconds;
  return {{"T", row.tokens},
          {"path", row.path},
          {"rows", row.rows},
          {"active_experts", row.active_experts},
          {"seconds",
           {{"route", s.route},
            {"pack", s.pack},
            {"gemm1", s.gemm1},
            {"gemm2", s.gemm2},
            {"combine", s.combine},
            {"total", s.total()}}},
          {"gflops", row.flops / s.total() * 1e-9},
          {"weights_gbps", row.weight_bytes / s.total() * 1e-9},
          {"read_gbps", row.read_rate * 1e-9},
          {"peak_gflops", row.peak_flops * 1e-9}};
}

}  // namespace

std::string to_json(const Report& report) {
  const Result<DeviceInfo> host = query_device(Device{});
  ordered_json rows = ordered_json::array();
  for (const Row& row : report.rows) rows.push_back(to_json(row));
  const ordered_json json = {
      {"schema", 1},
      {"machine",
       {{"cpu", host.ok() ? host.value().name : ""},
        {"threads", report.threads},
        {"physical_cores", physical_cores()}}},
      {"date", fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)))},
      {"commit", report.commit},
      {"method", fmt::format("stage by stage, the median run of {}; official inputs, weights bound before, memory read "
                             "and instruction peak at their best in the same run",
                             report.runs)},
      {"rows", std::move(rows)}};
  return json.dump(2) + '\n';
}

}  // namespace blockmoe::bench
