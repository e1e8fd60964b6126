#include "help_formatter.hpp"

#include <fmt/format.h>

#include <sstream>
#include <utility>

namespace blockmoe::cli {
namespace {

constexpr std::size_t kNameWidth = 34;
constexpr std::size_t kTextWidth = 86;  // both together: 120 columns

std::string wrapped(const std::string& text) {
  std::istringstream words(text);
  std::string lines;
  std::size_t used = 0;
  for (std::string word; words >> word;) {
    const bool fits = used + 1 + word.size() <= kTextWidth;
    if (used > 0) lines += fits ? ' ' : '\n';
    used = used > 0 && fits ? used + 1 + word.size() : word.size();
    lines += word;
  }
  return lines;
}

}  // namespace

HelpFormatter::HelpFormatter() {
  column_width(kNameWidth);
}

std::string HelpFormatter::make_usage(const CLI::App* app, std::string name) const {
  return CLI::Formatter::make_usage(app, std::move(name)) + '\n';
}

// The base class puts a blank line before each group, and another between groups.
std::string HelpFormatter::make_group(std::string group, bool is_positional,
                                      std::vector<const CLI::Option*> options) const {
  return CLI::Formatter::make_group(std::move(group), is_positional, std::move(options)).substr(1);
}

// The type's name without the validators' that follow its colon.
std::string HelpFormatter::make_option_opts(const CLI::Option* option) const {
  if (option->get_type_size() == 0) return "";
  const std::string type = option->get_type_name();
  return ' ' + type.substr(0, type.find(':'));
}

std::string HelpFormatter::make_option_desc(const CLI::Option* option) const {
  const std::string standard = option->get_default_str();
  return wrapped(standard.empty() ? option->get_description()
                                  : fmt::format("{} [{}]", option->get_description(), standard));
}

}  // namespace blockmoe::cli
