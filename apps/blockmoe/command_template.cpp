#include "command_template.hpp"

#include <fmt/format.h>

#include <utility>

#include "error.hpp"

namespace blockmoe::cli {
namespace {

std::string known_keys(const std::map<std::string, std::string>& values) {
  std::string keys;
  for (const auto& [key, value] : values) keys += (keys.empty() ? "" : ", ") + key;
  return keys;
}

}  // namespace

CommandTemplate::CommandTemplate(std::string option, const std::string& text) : option_(std::move(option)) {
  QuoteContext context = QuoteContext::bare;
  std::string literal;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool brace = text[i] == '{' || text[i] == '}';
    if (!brace) {
      literal += text[i];
    } else if (i + 1 < text.size() && text[i + 1] == text[i]) {
      literal += text[i++];
    } else {
      const std::size_t end = text[i] == '{' ? text.find_first_of("{}", i + 1) : std::string::npos;
      if (end == std::string::npos || text[end] != '}' || end == i + 1) {
        throw InputError(fmt::format("{}: the brace at character {} is not part of a {{key}}; write {}{} for a brace",
                                     option_, i + 1, text[i], text[i]));
      }
      add_literal(std::exchange(literal, {}), context);
      pieces_.push_back({true, text.substr(i + 1, end - i - 1), context});
      i = end;
    }
  }
  add_literal(std::move(literal), context);
}

void CommandTemplate::add_literal(std::string literal, QuoteContext& context) {
  context = quote_context_after(literal, context);
  if (!literal.empty()) pieces_.push_back({false, std::move(literal), context});
}

std::string CommandTemplate::expand(const std::map<std::string, std::string>& values) const {
  std::string command;
  for (const Piece& piece : pieces_) {
    if (!piece.is_key) {
      command += piece.text;
    } else if (const auto found = values.find(piece.text); found != values.end()) {
      command += shell_quote(found->second, piece.context);
    } else {
      throw InputError(fmt::format("{}: a row has no key '{}', only {}; write {{{{{}}}}} for braces", option_,
                                   piece.text, known_keys(values), piece.text));
    }
  }
  return command;
}

}  // namespace blockmoe::cli
