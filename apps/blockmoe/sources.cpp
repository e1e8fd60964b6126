#include "sources.hpp"

#include <map>
#include <memory>

#include "external_command.hpp"

namespace blockmoe::cli {

using workload::Workload;

Source agent_metadata() {
  return [](const Workload& row, Progress&) -> std::optional<Measurement> {
    if (!row.agent_latency_us) return std::nullopt;
    Measurement found;
    const auto passed = row.values.find("passed");
    found.passed = passed == row.values.end() || passed->second == "true";
    found.latency_us = row.agent_latency_us;
    found.detail = {{"source", "metadata"}, {"passed_given", passed != row.values.end()}};
    if (!found.passed) found.why_failed = "the row says so";
    return found;
  };
}

Source baseline_metadata() {
  return [](const Workload& row, Progress&) -> std::optional<Measurement> {
    if (!row.baseline_latency_us) return std::nullopt;
    Measurement found;
    found.passed = true;
    found.latency_us = row.baseline_latency_us;
    found.detail = {{"source", "metadata"}};
    if (const auto name = row.values.find("baseline_name"); name != row.values.end())
      found.detail["name"] = name->second;
    return found;
  };
}

Source command_source(const CommandTemplate& command, std::chrono::duration<double> limit,
                      const std::vector<Workload>& rows) {
  auto commands = std::make_shared<std::map<std::string, std::string>>();
  for (const Workload& row : rows) (*commands)[row.uuid] = command.expand(row.values);
  return [commands, limit](const Workload& row, Progress& progress) -> std::optional<Measurement> {
    progress.show("running a command");
    CommandAnswer answer = ask_command(commands->at(row.uuid), limit);
    Measurement found;
    found.passed = answer.passed && answer.error.empty();
    found.latency_us = answer.latency_us;
    found.detail = std::move(answer.detail);
    if (!found.passed) found.why_failed = answer.error.empty() ? "the command says so" : answer.error;
    return found;
  };
}

std::optional<Measurement> ask(const std::vector<Source>& sources, const Workload& row, Progress& progress) {
  for (const Source& source : sources) {
    if (std::optional<Measurement> found = source(row, progress)) return found;
  }
  return std::nullopt;
}

}  // namespace blockmoe::cli
