// safetensors.hpp: the safetensors file format: 8 bytes of header length (little-endian), a JSON header, the tensors' bytes.
//
// A file is mapped, not read: views point into the mapping. Every rule of the format is checked when a file is opened, so that a
// view is always inside the file: header no longer than the file and than 100 MB, beginning with '{'; each tensor of a
// known type, with data_offsets whose length is that of its shape; no duplicate name; tensors neither overlap nor leave
// holes, and end where the file ends.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "blockmoe/status.hpp"

namespace blockmoe::workload {

enum class ElementType : std::uint8_t {
  boolean,
  u8,
  i8,
  f8_e5m2,
  f8_e4m3,
  f8_e8m0,
  i16,
  u16,
  f16,
  bf16,
  i32,
  u32,
  f32,
  i64,
  u64,
  f64
};

/// The format's name of a type ("F8_E4M3") and an element's size in bytes.
std::string_view type_name(ElementType type);
std::size_t type_bytes(ElementType type);

/// A tensor in a file, or one to be written. Row-major, no gaps. `data` need not be aligned to its type.
struct TensorView {
  ElementType type = ElementType::u8;
  std::vector<std::int64_t> shape;  ///< empty: a scalar
  const std::byte* data = nullptr;
  std::size_t bytes = 0;
};

inline constexpr std::size_t kMaxHeaderBytes = 100'000'000;

/// An open file. Copies share the mapping; views are valid as long as a copy lives.
class SafetensorsFile {
 public:
  /// Errors are `invalid_argument` and begin with "FILE: ", then name the tensor if it is about one.
  static Result<SafetensorsFile> open(const std::string& path);

  /// Checks `bytes`, which must outlive the result. `name` stands for the file in messages.
  static Result<SafetensorsFile> parse(const std::byte* bytes, std::size_t size, const std::string& name);

  const std::string& name() const { return name_; }
  const std::map<std::string, TensorView>& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

  /// The tensor of that name, or an error that names the file and the tensor.
  Result<TensorView> find(const std::string& tensor) const;

 private:
  SafetensorsFile() = default;

  std::string name_;
  std::shared_ptr<const void> mapping_;  // null after parse()
  std::map<std::string, TensorView> tensors_;
  std::map<std::string, std::string> metadata_;
};

/// Writes the tensors in the order of decreasing element size and then of name, so that each stands aligned to its type
/// (the header is padded to 64 bytes). The file appears whole or not at all: it is written beside `path`, then renamed.
Status write_safetensors(const std::string& path, const std::map<std::string, TensorView>& tensors,
                         const std::map<std::string, std::string>& metadata = {});

}  // namespace blockmoe::workload
