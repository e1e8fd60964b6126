#include "workload/json.hpp"

#include <set>
#include <vector>

#include "workload/error.hpp"

namespace blockmoe::workload {
namespace {

// Thrown through the parser, which has no other way to stop, and caught in parse_object().
struct Refused {
  std::string why;
};

// Follows the parser and refuses what plain JSON leaves open.
class Strictness {
 public:
  bool operator()(int depth, Json::parse_event_t event, Json& parsed) {
    using Event = Json::parse_event_t;
    const bool opens = event == Event::object_start || event == Event::array_start;
    if (opens && depth >= kMaxJsonDepth) throw Refused{fmt::format("nested deeper than {} levels", kMaxJsonDepth)};
    if (event == Event::object_start) keys_.emplace_back();
    if (event == Event::object_end) keys_.pop_back();
    if (event == Event::key) {
      const auto& key = parsed.get_ref<const std::string&>();
      if (!keys_.back().insert(key).second) throw Refused{fmt::format("key {} stands twice", in_quotes(key))};
    }
    return true;
  }

 private:
  std::vector<std::set<std::string>> keys_;  // of the objects that are open
};

}  // namespace

std::string message_of(const nlohmann::json::exception& error) {
  std::string message = error.what();
  if (const std::size_t tag = message.find("] "); tag != std::string::npos) message.erase(0, tag + 2);
  if (const std::size_t token = message.find("; last read"); token != std::string::npos) message.resize(token);
  return message;
}

Result<Json> parse_object(std::string_view text) {
  try {
    Json value = Json::parse(text.begin(), text.end(), Strictness());
    if (!value.is_object()) return invalid("is {}, expected a JSON object", describe(value));
    return value;
  } catch (const nlohmann::json::exception& error) {
    std::string message = message_of(error);
    constexpr std::string_view kLine = "line 1, ";  // of the text; in a file of rows it would pass for the file's
    const std::size_t line = message.find(kLine);
    if (line != std::string::npos && text.find('\n') == std::string_view::npos) message.erase(line, kLine.size());
    return invalid("{}", message);
  } catch (const Refused& refused) {
    return invalid("{}", refused.why);
  }
}

std::string describe(const Json& value) {
  switch (value.type()) {
    case Json::value_t::null:
      return "null";
    case Json::value_t::object:
      return "an object";
    case Json::value_t::array:
      return "an array";
    case Json::value_t::string:
      return in_quotes(value.get_ref<const std::string&>());
    default:
      return value.dump();
  }
}

Result<std::int64_t> integer_of(const Json& value, const std::string& place, std::int64_t least, std::int64_t most) {
  const auto wrong = [&] {
    return invalid("{}: is {}, expected an integer of {}..{}", place, describe(value), least, most);
  };
  if (!value.is_number_integer()) return wrong();
  if (value.is_number_unsigned() && value.get<std::uint64_t>() > static_cast<std::uint64_t>(INT64_MAX)) return wrong();
  const auto number = value.get<std::int64_t>();
  if (number < least || number > most) return wrong();
  return number;
}

Result<std::uint64_t> unsigned_of(const Json& value, const std::string& place) {
  if (!value.is_number_unsigned())
    return invalid("{}: is {}, expected an integer of 0..2^64-1", place, describe(value));
  return value.get<std::uint64_t>();
}

Result<double> number_of(const Json& value, const std::string& place) {
  if (!value.is_number()) return invalid("{}: is {}, expected a number", place, describe(value));
  return value.get<double>();
}

Result<std::string> string_of(const Json& value, const std::string& place) {
  if (!value.is_string()) return invalid("{}: is {}, expected a string", place, describe(value));
  return value.get<std::string>();
}

Status expect_object(const Json& value, const std::string& place) {
  if (!value.is_object()) return invalid("{}: is {}, expected an object", place, describe(value));
  return {};
}

}  // namespace blockmoe::workload
