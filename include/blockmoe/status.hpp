// status.hpp: how the library says that something is wrong. Nothing in the library throws.
#pragma once

#include <cassert>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

namespace blockmoe {

/// The values are those of blockmoe_status in the C ABI, and stay what they are.
enum class StatusCode : std::int32_t {
  ok = 0,
  invalid_argument = 1,  ///< a shape, type, layout, alignment, pointer or value; the message names the argument
  unsupported = 2,       ///< well-formed, but this machine or this build can't run it
  device_error = 3,      ///< the system, driver or runtime refused work; the message names the kernel or the call
  out_of_memory = 4,     ///< host memory; device memory is the caller's
};

class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(StatusCode code, std::string message) : code_(code), message_(std::move(message)) {}

  bool ok() const noexcept { return code_ == StatusCode::ok; }
  StatusCode code() const noexcept { return code_; }
  /// The argument, what it is, what it must be. Empty when ok.
  const std::string& message() const noexcept { return message_; }

 private:
  StatusCode code_ = StatusCode::ok;
  std::string message_;
};

/// A value, or the Status that says why there is none.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}  // NOLINT(google-explicit-constructor): `return plan;` is the point
  Result(Status status) : status_(std::move(status)) { assert(!status_.ok()); }  // NOLINT(google-explicit-constructor)

  bool ok() const noexcept { return value_.has_value(); }
  const Status& status() const noexcept { return status_; }

  /// Call only when ok().
  T& value() & {
    assert(ok());
    return *value_;  // NOLINT(bugprone-unchecked-optional-access): the caller's duty
  }
  const T& value() const& {
    assert(ok());
    return *value_;  // NOLINT(bugprone-unchecked-optional-access): the caller's duty
  }
  T&& value() && {
    assert(ok());
    return *std::move(value_);  // NOLINT(bugprone-unchecked-optional-access): the caller's duty
  }

 private:
  Status status_;
  std::optional<T> value_;
};

}  // namespace blockmoe
