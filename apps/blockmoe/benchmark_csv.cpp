#include "benchmark_csv.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <string_view>

#include "error.hpp"
#include "output_file.hpp"

namespace blockmoe::cli {
namespace {

constexpr std::string_view kHeader =
    "timestamp,commit,solution_name,workload_set,batch_size,latency_us,baseline_latency_us,speedup_vs_baseline,"
    "passed_correctness,notes";

// RFC 4180; a line break becomes a space, so that a row stays one line.
std::string field(std::string_view text) {
  std::string quoted;
  for (const char c : text) {
    if (c == '"') quoted += '"';
    quoted += c == '\n' || c == '\r' ? ' ' : c;
  }
  if (quoted.find_first_of("\", ") == std::string::npos) return quoted;
  return '"' + quoted + '"';
}

std::string number(const std::optional<double>& value) {
  return value ? fmt::format("{:.3f}", *value) : std::string();
}

std::string line_of(const Row& row, const Report& report, const BenchmarkLabels& labels) {
  const std::string pruned = row.pruning_cost ? mark_of(report.pruning) + "; " : "";
  const std::string notes = pruned + (row.note.empty() ? row.uuid : row.uuid + ": " + row.note);
  return fmt::format("{},{},{},{},{},{},{},{},{},{}\n", report.timestamp, field(labels.commit),
                     field(labels.solution_name), field(labels.workload_set), row.tokens, number(row.agent_latency_us),
                     number(row.baseline_latency_us), number(row.speedup_vs_baseline()), row.passed, field(notes));
}

class AppendedFile {
 public:
  explicit AppendedFile(const std::filesystem::path& path)
      : path_(path), descriptor_(open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666)) {
    if (descriptor_ < 0 || flock(descriptor_, LOCK_EX) != 0) fail();
  }
  AppendedFile(const AppendedFile&) = delete;
  AppendedFile& operator=(const AppendedFile&) = delete;
  ~AppendedFile() {
    if (descriptor_ >= 0) close(descriptor_);
  }

  bool is_empty() const {
    struct stat info = {};
    if (fstat(descriptor_, &info) != 0) fail();
    return info.st_size == 0;
  }
  void append(std::string_view text) const {
    while (!text.empty()) {
      const ssize_t count = write(descriptor_, text.data(), text.size());
      if (count < 0 && errno != EINTR) fail();
      if (count > 0) text.remove_prefix(static_cast<std::size_t>(count));
    }
  }

 private:
  [[noreturn]] void fail() const {
    throw RunError(fmt::format("cannot append to {}: {}", path_.string(), std::strerror(errno)));
  }
  std::filesystem::path path_;
  int descriptor_;
};

}  // namespace

void require_benchmark_csv(const std::string& option, const std::filesystem::path& path) {
  require_writable(option, path);
  std::ifstream file(path);
  std::string first;
  if (!std::getline(file, first)) return;
  if (!first.empty() && first.back() == '\r') first.pop_back();
  if (first != kHeader) {
    throw InputError(fmt::format("{}: {} begins with '{}', expected the header '{}'; name another file", option,
                                 path.string(), first, kHeader));
  }
}

void append_benchmark_csv(const std::filesystem::path& path, const Report& report, const BenchmarkLabels& labels) {
  const AppendedFile file(path);
  std::string text;
  if (file.is_empty()) text = fmt::format("{}\n", kHeader);
  for (const Row& row : report.rows) text += line_of(row, report, labels);
  file.append(text);
}

}  // namespace blockmoe::cli
