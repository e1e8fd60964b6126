// main.cpp: parses the command line, runs the subcommand, turns what it throws into a line and an exit code.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "blockmoe/version.h"
#include "commands.hpp"
#include "error.hpp"
#include "help_formatter.hpp"

namespace blockmoe::cli {
namespace {

struct Subcommand {
  const char* name;
  Command (*add)(CLI::App& app);
};

constexpr std::array kSubcommands{
    Subcommand{"verify", add_verify}, Subcommand{"bench", add_bench}, Subcommand{"run", add_run},
    Subcommand{"plan", add_plan},     Subcommand{"info", add_info},
};

int complain(const std::string& name, const std::string& message, int code) {
  fmt::print(stderr, "blockmoe{}{}: {}\n", name.empty() ? "" : " ", name, message);
  return code;
}

// What the parser refuses, in the form of all other errors.
int complain_of_usage(const CLI::App& app, const CLI::ParseError& error) {
  const std::vector<std::string> unknown = app.remaining(true);
  if (app.get_subcommands().empty()) {
    std::string names;
    for (const Subcommand& subcommand : kSubcommands) {
      names += (names.empty() ? "one of " : ", ") + std::string(subcommand.name);
    }
    return complain("", "subcommand: " + unlike(unknown.empty() ? "none" : "'" + unknown.front() + "'", names),
                    kBadInput);
  }
  const std::string name = app.get_subcommands().front()->get_name();
  if (dynamic_cast<const CLI::ExtrasError*>(&error) == nullptr) return complain(name, error.what(), kBadInput);
  return complain(name,
                  fmt::format("'{}' is none of its options; blockmoe {} --help lists them", unknown.front(), name),
                  kBadInput);
}

int run_command(const std::string& name, const Command& command) {
  try {
    const int code = command();
    if (std::fflush(stdout) != 0)
      throw RunError(std::string("cannot write to standard output: ") + std::strerror(errno));
    return code;
  } catch (const InputError& error) {
    return complain(name, error.what(), kBadInput);
  } catch (const std::bad_alloc&) {
    return complain(name, "out of memory", kSomethingFailed);
  } catch (const std::exception& error) {
    return complain(name, error.what(), kSomethingFailed);
  }
}

int run(int argc, const char* const* argv) {
  CLI::App app("The FP8 block-scaled mixture-of-experts layer of DeepSeek-V3/R1 as one operator.", "blockmoe");
  app.set_version_flag("--version", "blockmoe " BLOCKMOE_VERSION);
  app.require_subcommand(1);
  app.formatter(std::make_shared<HelpFormatter>());
  app.footer(
      "Exit code: 0 all passed, 1 something failed, 2 bad usage or input.\n"
      "blockmoe SUBCOMMAND --help tells more, with examples.");

  std::vector<std::pair<CLI::App*, Command>> commands;
  for (const Subcommand& subcommand : kSubcommands) {
    CLI::App* const added = app.add_subcommand(subcommand.name);
    commands.emplace_back(added, subcommand.add(*added));
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() != 0) return complain_of_usage(app, error);
    return app.exit(error);
  }
  for (const auto& [parsed, command] : commands) {
    if (parsed->parsed()) return run_command(parsed->get_name(), command);
  }
  return kBadInput;
}

}  // namespace
}  // namespace blockmoe::cli

int main(int argc, char** argv) {
  return blockmoe::cli::run(argc, argv);
}
