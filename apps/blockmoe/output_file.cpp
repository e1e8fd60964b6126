#include "output_file.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>

#include "error.hpp"

namespace blockmoe::cli {
namespace fs = std::filesystem;
namespace {

// A pipe, a terminal, /dev/null.
bool is_special(const fs::path& path) {
  return fs::exists(path) && !fs::is_regular_file(path);
}

fs::path folder_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

void write_text(const fs::path& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  file.close();
  if (!file) throw RunError(fmt::format("cannot write {}: {}", path.string(), std::strerror(errno)));
}

}  // namespace

void replace_file(const fs::path& path, const std::string& text) {
  if (is_special(path)) return write_text(path, text);
  const fs::path target = fs::weakly_canonical(path);  // a link stays a link
  const fs::path partial = target.string() + fmt::format(".{}.partial", getpid());
  try {
    write_text(partial, text);
    fs::rename(partial, target);
  } catch (...) {
    std::error_code ignored;
    fs::remove(partial, ignored);
    throw;
  }
}

void require_writable(const std::string& option, const fs::path& path) {
  if (fs::is_directory(path)) throw InputError(fmt::format("{}: {} is a folder, not a file", option, path.string()));
  const fs::path folder = folder_of(path);
  if (!fs::is_directory(folder)) {
    throw InputError(fmt::format("{}: there is no folder {}; make it first", option, folder.string()));
  }
  const fs::path asked = is_special(path) ? path : folder;
  if (access(asked.c_str(), W_OK) != 0) {
    throw InputError(fmt::format("{}: cannot write in {}: {}", option, asked.string(), std::strerror(errno)));
  }
}

void require_replaceable(const std::string& option, const fs::path& path) {
  require_writable(option, path);
  if (is_special(path)) throw InputError(fmt::format("{}: {} is not a plain file", option, path.string()));
}

}  // namespace blockmoe::cli
