#include "table.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

namespace blockmoe::cli {
namespace {

constexpr std::string_view kUuid = "uuid";

std::string figure(const std::optional<double>& value, const char* format) {
  return value ? fmt::format(fmt::runtime(format), *value) : "-";
}

std::string where(const verify::LargestError& largest) {
  if (largest.token < 0) return "-";
  return fmt::format("{:.3g} at token {}, column {}: got {:.6g}, expected {:.6g}", largest.error, largest.token,
                     largest.column, largest.got, largest.expected);
}

std::string check_columns(const std::optional<Check>& check) {
  if (!check) return fmt::format("{:>7} {:>7} {:>9} {:>10} {:>9}", "-", "-", "-", "-", "-");
  const verify::Comparison& c = check->comparison;
  return fmt::format("{:>7} {:>7} {:>9.6f} {:>10.6f} {:>9.6f}", check->active_experts, check->rows, c.matched_ratio,
                     c.rel_l2_requantised, c.rel_l2_plain);
}

}  // namespace

Table::Table(const std::vector<workload::Workload>& workloads, bool with_check, bool with_baseline)
    : uuid_width_(kUuid.size()), with_check_(with_check), with_baseline_(with_baseline) {
  for (const workload::Workload& workload : workloads) uuid_width_ = std::max(uuid_width_, workload.uuid.size());
}

std::string Table::header() const {
  std::string text = fmt::format("{:<{}} {:>6} ", kUuid, uuid_width_, "T");
  if (with_check_) {
    text += fmt::format("{:>7} {:>7} {:>9} {:>10} {:>9} ", "experts", "rows", "matched", "L2 requant", "L2 plain");
  }
  text += fmt::format("{:>12} ", "latency us");
  if (with_baseline_) text += fmt::format("{:>12} {:>8} ", "baseline us", "speedup");
  text += "result";
  return with_check_ ? text + "  largest error\n" : text + '\n';
}

std::string Table::line(const Row& row, const std::optional<Check>& check) const {
  std::string text = fmt::format("{:<{}} {:>6} ", row.uuid, uuid_width_, row.tokens);
  if (with_check_) text += check_columns(check) + ' ';
  text += fmt::format("{:>12} ", figure(row.agent_latency_us, "{:.1f}"));
  if (with_baseline_) {
    text += fmt::format("{:>12} {:>8} ", figure(row.baseline_latency_us, "{:.1f}"),
                        figure(row.speedup_vs_baseline(), "{:.3f}"));
  }
  text += row.passed ? "pass" : "FAIL";
  if (check) text += "    " + where(check->comparison.largest);
  text += '\n';
  if (!row.note.empty()) text += fmt::format("  {}: {}\n", row.uuid, row.note);
  return text;
}

std::string verdict(const Report& report) {
  return fmt::format("{}/{} passed\n", report.passed_count(), report.rows.size());
}

std::string summary(const Report& report, const std::vector<std::string>& remarks) {
  const Tolerances& t = report.tolerances;
  std::string text = verdict(report);
  text += fmt::format("tolerances: atol {}, rtol {}, required matched ratio {}\n", t.atol, t.rtol,
                      t.required_matched_ratio);
  text += fmt::format("reference: {}\n", report.reference);
  text += fmt::format("mean latency: {} us\n", figure(report.agent_mean_us(), "{:.1f}"));
  if (report.speed_baseline) {
    text += fmt::format("mean baseline latency: {} us ({}), mean speedup: {}\n",
                        figure(report.baseline_mean_us(), "{:.1f}"), *report.speed_baseline,
                        figure(report.mean_speedup_vs_baseline(), "{:.3f}"));
  }
  for (const std::string& remark : remarks) text += remark + '\n';
  return text;
}

}  // namespace blockmoe::cli
