// workload_file.hpp: which workloads a command works on.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "workload/workload.hpp"

namespace blockmoe::cli {

struct WorkloadFile {
  std::filesystem::path path;
  std::string shown;  // in reports: as the user wrote it, or the shipped file's name alone
};

// The user's, or the benchmark's shapes that come with the command: beside it, or in ../share/blockmoe.
WorkloadFile find_workload_file(const std::string& given);

struct Selection {
  bool all = false;                // rows of every split; without it those of split dev
  std::vector<std::string> uuids;  // these rows, of whatever split; each a whole uuid, or a beginning that one row has
};

// In the order of the file. Throws InputError where it can't be read, a uuid is not found or means several rows, nothing is
// selected, or FIB_DATASET_PATH is set but names no folder.
std::vector<workload::Workload> read_rows(const WorkloadFile& file, const Selection& selection);

}  // namespace blockmoe::cli
