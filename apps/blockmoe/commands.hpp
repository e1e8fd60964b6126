// commands.hpp: the subcommands, one a file.
//
// Each function declares its options on `app`, whose name and description it sets, and returns what runs when the user
// chose it: a function that gives the exit code, or throws what error.hpp declares.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

namespace blockmoe::cli {

using Command = std::function<int()>;

Command add_verify(CLI::App& app);  // verify.cpp
Command add_run(CLI::App& app);     // run.cpp
Command add_plan(CLI::App& app);    // plan.cpp
Command add_info(CLI::App& app);    // info.cpp
Command add_bench(CLI::App& app);   // bench.cpp

}  // namespace blockmoe::cli
