// shell.hpp: one command line, run by /bin/sh with a time limit.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

namespace blockmoe::cli {

struct ShellResult {
  int exit_code = 0;       // of the shell; 128 + n when signal n ended it
  bool timed_out = false;  // the command and all that it started were killed
  std::string out;         // standard output, at most kMaxOutput bytes, the last ones
  std::string err;         // standard error, likewise
};

inline constexpr std::size_t kMaxOutput = std::size_t{4} << 20;

// Standard input is empty. The command gets a process group of its own, which is killed at the limit, and when this
// process is interrupted. Throws RunError when no shell can be started.
ShellResult run_shell(const std::string& command, std::chrono::duration<double> limit);

// Where in a command line a value is put: the shell reads quotes differently in each place.
enum class QuoteContext { bare, in_single_quotes, in_double_quotes };

// `value` written so that the shell takes it as that text and nothing else.
std::string shell_quote(std::string_view value, QuoteContext context);

// The context after the shell has read `text`, having started it in `context`.
QuoteContext quote_context_after(std::string_view text, QuoteContext context);

}  // namespace blockmoe::cli
