#include "progress.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <utility>

namespace blockmoe::cli {

Progress::Progress(bool wanted) : on_(wanted && isatty(STDERR_FILENO) == 1) {}

Progress::~Progress() {
  clear();
}

void Progress::begin(std::string subject) {
  subject_ = std::move(subject);
}

void Progress::show(const std::string& text) {
  if (!on_) return;
  fmt::print(stderr, "\r\033[K{}: {}", subject_, text);
  std::fflush(stderr);
}

void Progress::clear() {
  if (!on_) return;
  fmt::print(stderr, "\r\033[K");
  std::fflush(stderr);
}

}  // namespace blockmoe::cli
