// command_template.hpp: a command line with places for what a workload's row holds.
//
//   {key}       the value of `key` among those of the row ({workload_json} is the whole row)
//   {{ and }}   a brace
//
// Values are quoted for the shell, with regard to the quotes that the template itself puts around them.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "shell.hpp"

namespace blockmoe::cli {

class CommandTemplate {
 public:
  // `option` is the name that errors speak of, "--agent-cmd". Throws InputError where a brace has no meaning.
  CommandTemplate(std::string option, const std::string& text);

  // The command of one row (workload::Workload::values). Throws InputError that names a key the row lacks.
  std::string expand(const std::map<std::string, std::string>& values) const;

 private:
  struct Piece {
    bool is_key = false;
    std::string text;  // literal text, or the key
    QuoteContext context = QuoteContext::bare;
  };
  void add_literal(std::string literal, QuoteContext& context);

  std::string option_;
  std::vector<Piece> pieces_;
};

}  // namespace blockmoe::cli
