// sources.hpp: where `verify` takes a row's figures from: the row itself, a command, or this library.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "command_template.hpp"
#include "measurement.hpp"
#include "progress.hpp"
#include "workload/workload.hpp"

namespace blockmoe::cli {

// Absent where the source knows nothing of the row.
using Source = std::function<std::optional<Measurement>(const workload::Workload& row, Progress& progress)>;

// The row's agent_latency_us, and its `passed`: a row that has none counts as passed, since nothing is checked.
Source agent_metadata();

// The row's baseline_latency_us.
Source baseline_metadata();

// What the command says (external_command.hpp). Every row's command is expanded when the source is made, so that a key
// that a row lacks is found before anything runs; `row` must be one of `rows`.
Source command_source(const CommandTemplate& command, std::chrono::duration<double> limit,
                      const std::vector<workload::Workload>& rows);

// What the first source that knows the row says.
std::optional<Measurement> ask(const std::vector<Source>& sources, const workload::Workload& row, Progress& progress);

}  // namespace blockmoe::cli
