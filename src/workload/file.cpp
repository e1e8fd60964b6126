#include "workload/file.hpp"

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "workload/error.hpp"

namespace blockmoe::workload {

Result<std::string> read_file(const std::string& path, std::size_t most_bytes) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rbe"), std::fclose);
  if (!file) return invalid("{}: can't be opened ({})", path, std::strerror(errno));
  std::string text;
  std::array<char, std::size_t{1} << 16> part;
  while (const std::size_t count = std::fread(part.data(), 1, part.size(), file.get())) {
    if (count > most_bytes - text.size()) return invalid("{}: is longer than {} bytes", path, most_bytes);
    text.append(part.data(), count);
  }
  if (std::ferror(file.get()) != 0) return invalid("{}: can't be read ({})", path, std::strerror(errno));
  return text;
}

}  // namespace blockmoe::workload
