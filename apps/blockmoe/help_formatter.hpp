// help_formatter.hpp: how --help looks: an option with one word for its value, its meaning wrapped beside it.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace blockmoe::cli {

class HelpFormatter : public CLI::Formatter {
 public:
  HelpFormatter();

  std::string make_usage(const CLI::App* app, std::string name) const override;
  std::string make_group(std::string group, bool is_positional, std::vector<const CLI::Option*> options) const override;
  std::string make_option_opts(const CLI::Option* option) const override;
  std::string make_option_desc(const CLI::Option* option) const override;
};

}  // namespace blockmoe::cli
