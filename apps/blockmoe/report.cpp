#include "report.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <ctime>

namespace blockmoe::cli {
namespace {

template <typename Figure>
std::optional<double> mean_of(const std::vector<Row>& rows, Figure figure) {
  double sum = 0;
  int count = 0;
  for (const Row& row : rows) {
    if (const std::optional<double> value = figure(row)) {
      sum += *value;
      ++count;
    }
  }
  if (count == 0) return std::nullopt;
  return sum / count;
}

template <typename T>
nlohmann::ordered_json or_null(const std::optional<T>& value) {
  return value ? nlohmann::ordered_json(*value) : nlohmann::ordered_json(nullptr);
}

nlohmann::ordered_json to_json(const Row& row) {
  return {
      {"uuid", row.uuid},
      {"T", row.tokens},
      {"split", row.split},
      {"passed", row.passed},
      {"agent_latency_us", or_null(row.agent_latency_us)},
      {"baseline_latency_us", or_null(row.baseline_latency_us)},
      {"speedup_vs_baseline", or_null(row.speedup_vs_baseline())},
      {"agent", row.agent},
      {"baseline", row.baseline},
  };
}

}  // namespace

std::optional<double> Row::speedup_vs_baseline() const {
  if (!baseline_latency_us || agent_latency_us.value_or(0) <= 0) return std::nullopt;
  return *baseline_latency_us / *agent_latency_us;
}

std::size_t Report::passed_count() const {
  return static_cast<std::size_t>(std::count_if(rows.begin(), rows.end(), [](const Row& row) { return row.passed; }));
}

bool Report::all_passed() const {
  return !rows.empty() && passed_count() == rows.size();
}

std::optional<double> Report::agent_mean_us() const {
  return mean_of(rows, [](const Row& row) { return row.agent_latency_us; });
}

std::optional<double> Report::baseline_mean_us() const {
  return mean_of(rows, [](const Row& row) { return row.baseline_latency_us; });
}

std::optional<double> Report::mean_speedup_vs_baseline() const {
  return mean_of(rows, [](const Row& row) { return row.speedup_vs_baseline(); });
}

std::string utc_timestamp() {
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(now));
}

nlohmann::ordered_json to_json(const Report& report) {
  nlohmann::ordered_json results = nlohmann::ordered_json::array();
  for (const Row& row : report.rows) results.push_back(to_json(row));
  return {
      {"timestamp", report.timestamp},
      {"machine", to_json(report.machine)},
      {"commit", report.commit},
      {"command", report.command},
      {"workload_file", report.workload_file},
      {"correctness",
       {{"atol", report.tolerances.atol},
        {"rtol", report.tolerances.rtol},
        {"required_matched_ratio", report.tolerances.required_matched_ratio},
        {"reference", report.reference}}},
      {"speed_baseline", or_null(report.speed_baseline)},
      {"workload_count", report.rows.size()},
      {"passed_count", report.passed_count()},
      {"all_passed", report.all_passed()},
      {"agent_mean_us", or_null(report.agent_mean_us())},
      {"baseline_mean_us", or_null(report.baseline_mean_us())},
      {"mean_speedup_vs_baseline", or_null(report.mean_speedup_vs_baseline())},
      {"notes", report.notes},
      {"wall_s", report.wall_s},
      {"results", std::move(results)},
  };
}

}  // namespace blockmoe::cli
