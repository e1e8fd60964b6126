// safetensors_header.hpp: the header of a safetensors file, read and checked. Private to the folder's .cpp files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "blockmoe/status.hpp"
#include "workload/safetensors.hpp"

namespace blockmoe::workload {

inline constexpr std::size_t kLengthBytes = 8;  // of the number before the header
inline constexpr const char* kMetadata = "__metadata__";

struct Header {
  std::map<std::string, TensorView> tensors;  ///< with data and bytes within the file
  std::map<std::string, std::string> metadata;
};

/// Checks every rule of the format on the bytes of a whole file.
Result<Header> read_header(const std::byte* bytes, std::size_t size);

/// Bytes that a tensor's type and shape say, or nothing where 64 bits don't hold them.
std::optional<std::uint64_t> bytes_of(const TensorView& view);

}  // namespace blockmoe::workload
