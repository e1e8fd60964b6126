// file.hpp: a whole file as text, bounded. Private to the folder's .cpp files.
#pragma once

#include <cstddef>
#include <string>

#include "blockmoe/status.hpp"

namespace blockmoe::workload {

/// Errors begin with "PATH: ".
Result<std::string> read_file(const std::string& path, std::size_t most_bytes);

}  // namespace blockmoe::workload
