// progress.hpp: one line of progress on a terminal; nothing anywhere else.
#pragma once

#include <string>

namespace blockmoe::cli {

// Writes to standard error, and only where that is a terminal.
class Progress {
 public:
  explicit Progress(bool wanted);
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress();

  // What comes before the text of show(): "3/19 e05c6c03 T=1".
  void begin(std::string subject);
  void show(const std::string& text);
  // Takes the line away, so that something can be printed.
  void clear();

 private:
  bool on_;
  std::string subject_;
};

}  // namespace blockmoe::cli
