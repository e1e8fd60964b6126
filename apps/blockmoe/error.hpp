// error.hpp: how a subcommand stops on what the user gave it.
#pragma once

#include <stdexcept>
#include <string>

#include "blockmoe/status.hpp"

namespace blockmoe::cli {

// What the process ends with. Anything that the command line's own parser refuses is bad_input too.
enum ExitCode : int {
  kAllPassed = 0,
  kSomethingFailed = 1,
  kBadInput = 2,
};

// Bad usage or bad input: one line that says what is wrong and what to do. Ends the process with kBadInput.
class InputError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The work itself failed on good input. Ends the process with kSomethingFailed.
class RunError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// An argument that the library refuses, or a device that is not there, is the user's to change; the rest is a failure.
[[noreturn]] inline void throw_status(const Status& status) {
  if (status.code() == StatusCode::invalid_argument || status.code() == StatusCode::unsupported) {
    throw InputError(status.message());
  }
  throw RunError(status.message());
}

template <typename T>
T value_or_raise(Result<T> result) {
  if (!result.ok()) throw_status(result.status());
  return std::move(result).value();
}

}  // namespace blockmoe::cli
