#include "workload/error.hpp"

namespace blockmoe::workload {

std::string in_quotes(std::string_view text) {
  constexpr std::size_t kLongest = 80;
  const auto continues = [](char c) { return (static_cast<unsigned char>(c) & 0xc0U) == 0x80U; };  // inside a character
  std::size_t length = text.size();
  if (length > kLongest) {
    length = kLongest;
    while (length > 0 && continues(text[length])) --length;
  }
  std::string line = "\"";
  for (const char c : text.substr(0, length)) {
    const auto code = static_cast<unsigned char>(c);
    if (code < 0x20 || code == 0x7f) {
      line += fmt::format("\\u{:04x}", static_cast<unsigned>(code));
    } else {
      if (c == '"' || c == '\\') line += '\\';
      line += c;
    }
  }
  return line + (length < text.size() ? "...\"" : "\"");
}

}  // namespace blockmoe::workload
