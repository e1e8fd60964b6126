#include "workload_file.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "error.hpp"

namespace blockmoe::cli {
namespace fs = std::filesystem;
namespace {

constexpr const char* kShippedFile = "deepseek_v3.jsonl";

bool begins_with(const std::string& text, const std::string& start) {
  return text.compare(0, start.size(), start) == 0;
}

// A wrong path must not pass for "no data set".
void require_dataset() {
  const std::string root = workload::dataset_root();
  if (root.empty() || fs::is_directory(root)) return;
  refuse("FIB_DATASET_PATH", root, "a folder");
}

// The index of the row that `uuid` means.
std::size_t find_row(const std::vector<workload::Workload>& rows, const std::string& uuid, const std::string& file) {
  std::vector<std::size_t> found;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (rows[i].uuid == uuid) return i;
    if (begins_with(rows[i].uuid, uuid)) found.push_back(i);
  }
  if (found.size() == 1) return found.front();
  if (found.empty()) throw InputError(fmt::format("--uuid {}: no row of {} has it", uuid, file));
  throw InputError(fmt::format("--uuid {}: {} rows of {} begin so; write more of it", uuid, found.size(), file));
}

}  // namespace

WorkloadFile find_workload_file(const std::string& given) {
  if (!given.empty()) return {given, given};
  const fs::path folder = fs::read_symlink("/proc/self/exe").parent_path();
  for (const fs::path& place : {folder, folder / ".." / "share" / "blockmoe"}) {
    if (fs::exists(place / kShippedFile)) return {place / kShippedFile, kShippedFile};
  }
  throw InputError(
      fmt::format("--workloads: {} is neither beside the command nor in ../share/blockmoe; name a file", kShippedFile));
}

std::vector<workload::Workload> read_rows(const WorkloadFile& file, const Selection& selection) {
  require_dataset();
  std::vector<workload::Workload> rows = value_or_raise(workload::read_workloads(file.path.string()));
  std::vector<bool> chosen(rows.size());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    chosen[i] = selection.uuids.empty() && (selection.all || rows[i].split == "dev");
  }
  for (const std::string& uuid : selection.uuids) chosen[find_row(rows, uuid, file.shown)] = true;

  std::vector<workload::Workload> kept;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (chosen[i]) kept.push_back(std::move(rows[i]));
  }
  if (kept.empty()) {
    throw InputError(
        fmt::format("no row of {} has the split dev; --all takes every split, --uuid names rows", file.shown));
  }
  return kept;
}

}  // namespace blockmoe::cli
