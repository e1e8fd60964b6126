#include "table.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

namespace blockmoe::cli {
namespace {

constexpr std::string_view kUuid = "uuid";
constexpr std::string_view kGemm1 = "gemm1 path";
constexpr std::string_view kGemm2 = "gemm2 path";

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

std::string pruning_columns(const std::optional<PruningCost>& cost) {
  if (!cost) return fmt::format("{:>8} {:>9} {:>9}", "-", "-", "-");
  return fmt::format("{:>8} {:>9.6f} {:>9.6f}", cost->dropped, cost->matched_ratio, cost->rel_l2);
}

// A text of what ran, which a command may print too.
std::string said_by_agent(const Row& row, const char* key) {
  const auto found = row.agent.is_object() ? row.agent.find(key) : row.agent.end();
  return found != row.agent.end() && found->is_string() ? found->get<std::string>() : "-";
}

std::string speedups(const SpeedComparison& c) {
  const std::string least = c.least == nullptr ? "-"
                                               : fmt::format("{:.3f} (T = {}, {})", *c.least->speedup_vs_baseline(),
                                                             c.least->tokens, c.least->uuid);
  return fmt::format("ratio of means {}, mean speedup {}, least speedup {}, large shapes (T >= {}) summed {}",
                     figure(c.ratio_of_means, "{:.3f}"), figure(c.mean_speedup, "{:.3f}"), least, kLeastLargeTokens,
                     figure(c.large_speedup, "{:.3f}"));
}

std::string pruning_summary(const Report& report) {
  PruningCost sum;
  for (const Row& row : report.rows) {
    if (!row.pruning_cost) continue;
    sum.picks += row.pruning_cost->picks;
    sum.dropped += row.pruning_cost->dropped;
    sum.matched_ratio = std::min(sum.matched_ratio, row.pruning_cost->matched_ratio);
    sum.rel_l2 = std::max(sum.rel_l2, row.pruning_cost->rel_l2);
  }
  return fmt::format(
      "{}; {} of {} local picks dropped; against the exact layer a matched ratio of {:.4f} or more and a relative L2 "
      "of "
      "{:.4f} or less\n",
      mark_of(report.pruning), sum.dropped, sum.picks, sum.matched_ratio, sum.rel_l2);
}

}  // namespace

Table::Table(const std::vector<workload::Workload>& workloads, bool with_check, bool with_pruning)
    : uuid_width_(kUuid.size()), with_check_(with_check), with_pruning_(with_pruning) {
  for (const workload::Workload& workload : workloads) uuid_width_ = std::max(uuid_width_, workload.uuid.size());
}

std::string Table::header() const {
  std::string text = fmt::format("{:<{}} {:>6} ", kUuid, uuid_width_, "T");
  if (with_check_) {
    text += fmt::format("{:>7} {:>7} {:>9} {:>10} {:>9} ", "experts", "rows", "matched", "L2 requant", "L2 plain");
  }
  if (with_pruning_) text += fmt::format("{:>8} {:>9} {:>9} ", "dropped", "m. exact", "L2 exact");
  text += fmt::format("{:>12} ", "latency us");
  text += "result";
  return with_check_ ? text + "  largest error\n" : text + '\n';
}

std::string Table::line(const Row& row, const std::optional<Check>& check) const {
  std::string text = fmt::format("{:<{}} {:>6} ", row.uuid, uuid_width_, row.tokens);
  if (with_check_) text += check_columns(check) + ' ';
  if (with_pruning_) text += pruning_columns(row.pruning_cost) + ' ';
  text += fmt::format("{:>12} ", figure(row.agent_latency_us, "{:.1f}"));
  text += row.passed ? "pass" : "FAIL";
  if (row.pruning_cost) text += fmt::format(" {}", kPruned);
  if (check) text += "    " + where(check->comparison.largest);
  text += '\n';
  if (!row.note.empty()) text += fmt::format("  {}: {}\n", row.uuid, row.note);
  return text;
}

std::string comparison_table(const Report& report) {
  if (!report.speed_baseline) return {};
  std::size_t uuid_width = kUuid.size();
  std::size_t gemm1_width = kGemm1.size();
  for (const Row& row : report.rows) {
    uuid_width = std::max(uuid_width, row.uuid.size());
    gemm1_width = std::max(gemm1_width, said_by_agent(row, "gemm1_path").size());
  }
  std::string text = fmt::format("\n{:>6} {:<{}} {:>12} {:>12} {:>8} {:<{}} {}\n", "T", kUuid, uuid_width,
                                 "baseline us", "ours us", "speedup", kGemm1, gemm1_width, kGemm2);
  for (const Row& row : report.rows) {
    text += fmt::format("{:>6} {:<{}} {:>12} {:>12} {:>8} {:<{}} {}{}\n", row.tokens, row.uuid, uuid_width,
                        figure(row.baseline_latency_us, "{:.1f}"), figure(row.agent_latency_us, "{:.1f}"),
                        figure(row.speedup_vs_baseline(), "{:.3f}"), said_by_agent(row, "gemm1_path"), gemm1_width,
                        said_by_agent(row, "gemm2_path"), row.pruning_cost ? fmt::format(" {}", kPruned) : "");
  }
  return text + fmt::format("{}; baseline: {}\n\n", speedups(report.speed_comparison()), *report.speed_baseline);
}

std::string verdict(const Report& report) {
  const bool pruned = contract_of(report.pruning).is_on();
  return fmt::format("{}/{} passed{}{}\n", report.passed_count(), report.rows.size(), pruned ? ", " : "",
                     pruned ? kPruned : "");
}

std::string summary(const Report& report, const std::vector<std::string>& remarks) {
  const Tolerances& t = report.tolerances;
  std::string text = comparison_table(report) + verdict(report);
  if (contract_of(report.pruning).is_on()) text += pruning_summary(report);
  text += fmt::format("tolerances: atol {}, rtol {}, required matched ratio {}\n", t.atol, t.rtol,
                      t.required_matched_ratio);
  text += fmt::format("reference: {}\n", report.reference);
  text += fmt::format("mean latency: {} us\n", figure(report.agent_mean_us(), "{:.1f}"));
  if (report.speed_baseline) {
    text += fmt::format("mean baseline latency: {} us ({})\n", figure(report.baseline_mean_us(), "{:.1f}"),
                        *report.speed_baseline);
  }
  for (const std::string& remark : remarks) text += remark + '\n';
  return text;
}

}  // namespace blockmoe::cli
