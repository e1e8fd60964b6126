#include <fmt/format.h>

#include <algorithm>

#include "bench_ep.hpp"

namespace blockmoe::cli {

using nlohmann::ordered_json;

double EpBenchRow::hidden() const {
  return serial_us > compute_us ? 1.0 - (us - compute_us) / (serial_us - compute_us) : 0;
}

namespace {

ordered_json to_json(const EpBenchRow& row) {
  ordered_json json{{"T", row.tokens},
                    {"way", row.way},
                    {"us", row.us},
                    {"operator_us", row.operator_us},
                    {"over_us", row.us - row.operator_us},
                    {"compute_us", row.compute_us},
                    {"stages_us", row.stages_us},
                    {"predicted_us", row.predicted_us},
                    {"relative_l2", row.relative_l2},
                    {"repeatable", row.repeatable}};
  if (row.serial_us > 0) {
    json["serial_us"] = row.serial_us;
    json["hidden"] = row.hidden();
  }
  return json;
}

double stage(const EpBenchRow& row, const char* name) {
  const auto found = row.stages_us.find(name);
  return found == row.stages_us.end() ? 0 : found->second;
}

}  // namespace

ordered_json to_json(const EpBenchReport& report) {
  ordered_json rows = ordered_json::array();
  for (const EpBenchRow& row : report.rows) rows.push_back(to_json(row));
  return {{"schema", 1},
          {"machine", to_json(report.machine)},
          {"date", report.date},
          {"commit", report.commit},
          {"command", report.command},
          {"method", report.method},
          {"ranks", report.ranks},
          {"nccl", report.nccl},
          {"fault", report.fault},
          {"notes", report.notes},
          {"rows", std::move(rows)}};
}

std::string ep_bench_header() {
  return fmt::format(
      "{:>6} {:>9} {:>10} {:>10} {:>8} {:>8} {:>9} {:>10} {:>9} {:>7} {:>10} {:>10} {:>7} {:>10} {:>9} {}\n", "T",
      "way", "us", "operator", "over", "route", "exchange", "products", "return", "sum", "compute", "serial", "hidden",
      "predicted", "rel. L2", "bits");
}

std::string ep_bench_line(const EpBenchRow& row) {
  const auto predicted = row.predicted_us.find("total");
  return fmt::format(
      "{:>6} {:>9} {:>10.1f} {:>10.1f} {:>8.1f} {:>8.1f} {:>9.1f} {:>10.1f} {:>9.1f} {:>7.1f} {:>10.1f} {:>10.1f} "
      "{:>7.2f} "
      "{:>10.1f} {:>9.5f} {}\n",
      row.tokens, row.way, row.us, row.operator_us, row.us - row.operator_us, stage(row, "route"),
      stage(row, "exchange"), stage(row, "products"), stage(row, "return"), stage(row, "sum"), row.compute_us,
      row.serial_us, row.hidden(), predicted == row.predicted_us.end() ? 0.0 : predicted->second, row.relative_l2,
      row.repeatable ? "equal" : "DIFFER");
}

}  // namespace blockmoe::cli
