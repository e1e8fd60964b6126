// error.hpp: how a subcommand stops on what the user gave it.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

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

// What is wrong with an argument, to stand behind its name: "<what it is>, expected <what it must be> (<why>)". The form of
// the library's own messages about arguments.
inline std::string unlike(std::string_view found, std::string_view expected, std::string_view why = {}) {
  std::string text = std::string(found) + ", expected " + std::string(expected);
  return why.empty() ? text : text + " (" + std::string(why) + ")";
}

// Throws the same with the argument's name in front.
[[noreturn]] inline void refuse(std::string_view argument, std::string_view found, std::string_view expected,
                                std::string_view why = {}) {
  throw InputError(std::string(argument) + ": " + unlike(found, expected, why));
}

// An argument that the library refuses, or a device that is not there, is the user's to change; the rest is a failure.
[[noreturn]] inline void throw_status(const Status& status) {
  if (status.code() == StatusCode::invalid_argument || status.code() == StatusCode::unsupported) {
    throw InputError(status.message());
  }
  throw RunError(status.message());
}

inline void require_ok(const Status& status) {
  if (!status.ok()) throw_status(status);
}

template <typename T>
T value_or_raise(Result<T> result) {
  if (!result.ok()) throw_status(result.status());
  return std::move(result).value();
}

}  // namespace blockmoe::cli
