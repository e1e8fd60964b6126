// output_file.hpp: files that are there whole or not at all.
#pragma once

#include <filesystem>
#include <string>

namespace blockmoe::cli {

// Writes a file beside `path` and renames it to `path`; what was there stays until then, and for good on failure. What is
// not a plain file (a pipe, /dev/stdout) is written directly. Throws RunError.
void replace_file(const std::filesystem::path& path, const std::string& text);

// Throws InputError, naming the option, unless `path` can be written: called before work whose result would be lost.
void require_writable(const std::string& option, const std::filesystem::path& path);

// The same for a path that is always written beside and renamed: what is there must be a plain file.
void require_replaceable(const std::string& option, const std::filesystem::path& path);

}  // namespace blockmoe::cli
