#include "bench_report.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace blockmoe::cli {
namespace {

using nlohmann::ordered_json;

std::string stages_text(const BenchRow& row) {
  std::vector<std::string> parts;
  parts.reserve(row.stages_us.size());
  for (const auto& [name, us] : row.stages_us) parts.push_back(fmt::format("{} {:.1f}", name, us));
  return fmt::format("{}", fmt::join(parts, ", "));
}

ordered_json to_json(const BenchRow& row) {
  ordered_json json{{"T", row.tokens},
                    {"active_experts", row.active_experts},
                    {"rows", row.rows},
                    {"path", row.path},
                    {"floor_us", row.floor_us},
                    {"us", row.graph.median_us},
                    {"us_p10", row.graph.p10_us},
                    {"us_p90", row.graph.p90_us},
                    {"ratio", row.ratio()},
                    {"tflops", row.tflops()},
                    {"peer_us", ordered_json::object()},
                    {"read_us", row.read_us}};
  if (row.eager) json["eager_us"] = row.eager->median_us;
  if (!row.stages_us.empty()) json["stages_us"] = row.stages_us;
  return json;
}

}  // namespace

ordered_json to_json(const BenchReport& report) {
  ordered_json rows = ordered_json::array();
  for (const BenchRow& row : report.rows) rows.push_back(to_json(row));
  return {{"schema", 1},
          {"machine", to_json(report.machine)},
          {"date", report.date},
          {"commit", report.commit},
          {"command", report.command},
          {"profile", report.profile},
          {"routing", report.routing},
          {"method", report.method},
          {"pruning", to_json(report.pruning)},
          {"ceilings",
           {{"read_gbps", report.read_gbps},
            {"fp8_tflops", report.fp8_tflops},
            {"blockwise_tflops", report.blockwise_tflops}}},
          {"void", report.is_void},
          {"notes", report.notes},
          {"rows", std::move(rows)}};
}

std::string to_markdown(const BenchReport& report) {
  std::string text = fmt::format("{}, driver {}, CUDA {}, {}; {}, commit {}\n\n`{}`\n\n", report.machine.gpu,
                                 report.machine.driver, report.machine.cuda, report.machine.host, report.date,
                                 report.commit.empty() ? "not given" : report.commit, report.command);
  text += "| T | experts | rows | path | floor us | us | p10 | p90 | ratio | TFLOPS |\n";
  text += "|---|---|---|---|---|---|---|---|---|---|\n";
  for (const BenchRow& r : report.rows) {
    text += fmt::format("| {} | {} | {} | {} | {:.1f} | {:.1f} | {:.1f} | {:.1f} | {:.2f} | {:.0f} |\n", r.tokens,
                        r.active_experts, r.rows, r.path, r.floor_us, r.graph.median_us, r.graph.p10_us, r.graph.p90_us,
                        r.ratio(), r.tflops());
  }
  return text + '\n' + bench_summary(report);
}

std::string bench_header(bool with_eager) {
  return fmt::format("{:>7} {:>7} {:>7} {:>10} {:>10} {:>10} {:>10} {:>6} {:>7}{}  {}\n", "T", "experts", "rows",
                     "floor us", "us", "p10", "p90", "ratio", "TFLOPS",
                     with_eager ? fmt::format(" {:>10}", "eager us") : "", "path");
}

std::string bench_line(const BenchRow& row) {
  std::string text = fmt::format("{:>7} {:>7} {:>7} {:>10.1f} {:>10.1f} {:>10.1f} {:>10.1f} {:>6.2f} {:>7.0f}{}  {}\n",
                                 row.tokens, row.active_experts, row.rows, row.floor_us, row.graph.median_us,
                                 row.graph.p10_us, row.graph.p90_us, row.ratio(), row.tflops(),
                                 row.eager ? fmt::format(" {:>10.1f}", row.eager->median_us) : "", row.path);
  if (!row.stages_us.empty()) text += fmt::format("        stages: {} us\n", stages_text(row));
  return text;
}

std::string bench_summary(const BenchReport& report) {
  std::string text =
      fmt::format("ceilings of this run: read {:.0f} GB/s, dense FP8 {:.0f} TFLOPS, blockwise {:.0f} TFLOPS\n",
                  report.read_gbps, report.fp8_tflops, report.blockwise_tflops);
  if (const std::string mark = mark_of(report.pruning); !mark.empty()) text += mark + '\n';
  for (const std::string& note : report.notes) text += "note: " + note + '\n';
  return text;
}

}  // namespace blockmoe::cli
