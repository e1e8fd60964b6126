// json.hpp: JSON text to values, strictly. Private to the folder's .cpp files, so that nobody else compiles nlohmann-json.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "blockmoe/status.hpp"

namespace blockmoe::workload {

using Json = nlohmann::json;

inline constexpr int kMaxJsonDepth = 16;

/// An object. A key that stands twice in one object and nesting deeper than kMaxJsonDepth are errors, as all that JSON
/// itself forbids (comments, bytes that are not UTF-8, numbers beyond double, text after the value).
Result<Json> parse_object(std::string_view text);

/// "an integer", "a string", ...: for messages.
std::string describe(const Json& value);

/// Members of an object. `place` names the member in messages ("axes.seq_len"); the error says what it is and what it must be.
Result<std::int64_t> integer_of(const Json& value, const std::string& place, std::int64_t least, std::int64_t most);
Result<std::uint64_t> unsigned_of(const Json& value, const std::string& place);
Result<double> number_of(const Json& value, const std::string& place);
Result<std::string> string_of(const Json& value, const std::string& place);
Status expect_object(const Json& value, const std::string& place);

/// The parser's own message without its tag and without the text it stumbled on, which need not be printable.
std::string message_of(const nlohmann::json::exception& error);

}  // namespace blockmoe::workload
