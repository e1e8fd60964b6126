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

// In the order of the file. Throws InputError where a uuid is not found, means several rows, or nothing is selected.
std::vector<workload::Workload> select(std::vector<workload::Workload> rows, const Selection& selection,
                                       const std::string& file);

}  // namespace blockmoe::cli
