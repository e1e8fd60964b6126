#include "external_command.hpp"

#include <fmt/format.h>

#include <cmath>
#include <string_view>

#include "shell.hpp"

namespace blockmoe::cli {
namespace {

using json = nlohmann::ordered_json;

CommandAnswer failed(std::string error) {
  CommandAnswer answer;
  answer.detail = json{{"error", error}};
  answer.error = std::move(error);
  return answer;
}

std::optional<json> as_object(std::string_view text) {
  json value = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!value.is_object()) return std::nullopt;
  return value;
}

std::optional<json> last_object_line(std::string_view output) {
  while (!output.empty()) {
    const std::size_t start = output.find_last_of('\n');
    const std::string_view line = start == std::string_view::npos ? output : output.substr(start + 1);
    if (line.find('{') != std::string_view::npos) {
      if (std::optional<json> found = as_object(line)) return found;
    }
    output = start == std::string_view::npos ? std::string_view() : output.substr(0, start);
  }
  return std::nullopt;
}

std::string last_line(std::string_view text) {
  const std::size_t end = text.find_last_not_of("\r\n ");
  if (end == std::string_view::npos) return "nothing on its standard error";
  text = text.substr(0, end + 1);
  constexpr std::size_t kLongest = 200;
  std::string_view line = text.substr(text.find_last_of('\n') + 1);
  if (line.size() > kLongest) line.remove_prefix(line.size() - kLongest);
  return std::string(line);
}

}  // namespace

CommandAnswer read_answer(const std::string& output) {
  std::optional<json> object = last_object_line(output);
  if (!object) object = as_object(output);
  if (!object) return failed("the command printed no JSON object");
  const auto passed = object->find("passed");
  if (passed == object->end() || !passed->is_boolean()) {
    return failed("the command's JSON has no 'passed' that is true or false");
  }
  CommandAnswer answer;
  answer.passed = *passed;
  const auto latency = object->find("latency_us");
  const bool absent = latency == object->end() || latency->is_null();
  if (!absent && latency->is_number() && std::isfinite(latency->get<double>()) && latency->get<double>() > 0) {
    answer.latency_us = latency->get<double>();
  } else if (answer.passed || !absent) {
    return failed("the command's JSON has no 'latency_us' that is a number above 0");
  }
  answer.detail = std::move(*object);
  return answer;
}

CommandAnswer ask_command(const std::string& command, std::chrono::duration<double> limit) {
  const ShellResult result = run_shell(command, limit);
  if (result.timed_out) return failed(fmt::format("the command ran past {} s and was ended", limit.count()));
  if (result.exit_code != 0) {
    return failed(fmt::format("the command ended with {}: {}", result.exit_code, last_line(result.err)));
  }
  return read_answer(result.out);
}

}  // namespace blockmoe::cli
