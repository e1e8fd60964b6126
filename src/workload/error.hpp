// error.hpp: how this folder says that a file is wrong. Private to the folder's .cpp files.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <utility>

#include "blockmoe/status.hpp"

namespace blockmoe::workload {

template <typename... Args>
Status invalid(fmt::format_string<Args...> form, Args&&... args) {
  return {StatusCode::invalid_argument, fmt::format(form, std::forward<Args>(args)...)};
}

/// The same error with the place in front: "FILE:3: " + message.
inline Status at(const std::string& place, const Status& status) {
  return {status.code(), place + ": " + status.message()};
}

/// Text from a file for a message: in quotes, on one line (control characters as \\u00xx), at most 80 bytes of it.
std::string in_quotes(std::string_view text);

}  // namespace blockmoe::workload
