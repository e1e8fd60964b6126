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

std::optional<double> ratio(double numerator, double denominator) {
  if (denominator <= 0) return std::nullopt;
  return numerator / denominator;
}

nlohmann::ordered_json to_json(const SpeedComparison& comparison) {
  return {
      {"ratio_of_means", or_null(comparison.ratio_of_means)},
      {"least_speedup", comparison.least == nullptr ? nlohmann::ordered_json(nullptr)
                                                    : nlohmann::ordered_json(*comparison.least->speedup_vs_baseline())},
      {"large_shapes", {{"least_T", kLeastLargeTokens}, {"summed_speedup", or_null(comparison.large_speedup)}}}};
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

SpeedComparison Report::speed_comparison() const {
  SpeedComparison found;
  double agent = 0;
  double baseline = 0;
  double large_agent = 0;
  double large_baseline = 0;
  for (const Row& row : rows) {
    const std::optional<double> speedup = row.speedup_vs_baseline();
    if (!speedup) continue;
    agent += *row.agent_latency_us;
    baseline += *row.baseline_latency_us;
    if (found.least == nullptr || *speedup < *found.least->speedup_vs_baseline()) found.least = &row;
    if (row.tokens < kLeastLargeTokens) continue;
    large_agent += *row.agent_latency_us;
    large_baseline += *row.baseline_latency_us;
  }
  found.ratio_of_means = ratio(baseline, agent);
  found.mean_speedup = mean_of(rows, [](const Row& row) { return row.speedup_vs_baseline(); });
  found.large_speedup = ratio(large_baseline, large_agent);
  return found;
}

std::string utc_timestamp() {
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(now));
}

nlohmann::ordered_json to_json(const Report& report) {
  const SpeedComparison comparison = report.speed_comparison();
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
      {"mean_speedup_vs_baseline", or_null(comparison.mean_speedup)},
      {"comparison", report.speed_baseline ? to_json(comparison) : nlohmann::ordered_json(nullptr)},
      {"pruning", to_json(report.pruning)},
      {"notes", report.notes},
      {"wall_s", report.wall_s},
      {"results", std::move(results)},
  };
}

}  // namespace blockmoe::cli
