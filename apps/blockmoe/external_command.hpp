// external_command.hpp: somebody else's implementation, asked about one workload by a command.
//
// The command prints anything, and a JSON object on one line of its standard output (the last such line counts; the
// object may also be all of the output), and ends with 0:
//   passed       true or false
//   latency_us   microseconds, above 0; may be absent or null when `passed` is false
// Other keys are kept in the report as they are.
#pragma once

#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

namespace blockmoe::cli {

struct CommandAnswer {
  bool passed = false;
  std::optional<double> latency_us;
  nlohmann::ordered_json detail;  // the object as printed; {"error": ...} where there was none
  std::string error;              // why the answer cannot be used; empty otherwise
};

// Never throws on what the command does.
CommandAnswer ask_command(const std::string& command, std::chrono::duration<double> limit);

// The same judgement of text that a command printed.
CommandAnswer read_answer(const std::string& output);

}  // namespace blockmoe::cli
