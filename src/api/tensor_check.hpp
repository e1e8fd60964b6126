// tensor_check.hpp: one tensor against what the plan says it must be.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "blockmoe/status.hpp"
#include "blockmoe/tensor.hpp"

namespace blockmoe::api {

/// Rows of a pitched tensor stand at most this far apart, so that no offset in bytes reaches 2^63 (T is at most 2^30).
inline constexpr std::int64_t kMaxPitch = std::int64_t{1} << 31;

/// First size of an expected 2-D shape while the number of tokens is not known.
inline constexpr std::int64_t kUnknownTokens = -1;

struct ExpectedTensor {
  const char* name;
  const char* axes;  // "[L, 2I, H]"
  std::int32_t rank;
  std::array<std::int64_t, 3> shape;
  std::array<DType, 2> dtypes;        // either; the same twice where only one will do
  std::int64_t alignment;             // of the address, in bytes
  std::int64_t pitch_multiple = 0;    // 2-D: rows may stand a multiple of so many elements apart; 0 = no gaps at all
  const char* source_name = nullptr;  // the tensor that the shape follows from, for the message;
  const Tensor* source = nullptr;     // none: the plan
  const char* source_detail = "";     // ", blocks of 128"

  std::span<const std::int64_t> sizes() const { return {shape.data(), static_cast<std::size_t>(rank)}; }
};

std::int64_t bytes_of(DType dtype);

/// Neither data nor a shape.
inline bool is_absent(const Tensor& tensor) {
  return tensor.data == nullptr && tensor.rank == 0;
}

/// Everything but the address: shape, then type, device and layout.
Status check_form(const Tensor& tensor, const ExpectedTensor& expected, Device device);
/// Present and aligned.
Status check_address(const Tensor& tensor, const ExpectedTensor& expected);

/// From row to row of a checked 2-D tensor, in elements; its width where there is no second row.
inline std::int64_t pitch_of(const Tensor& tensor) {
  return tensor.dim(0) > 1 ? tensor.step(0) : tensor.dim(1);
}

/// From the first byte of an argument to behind its last one, gaps between rows included.
struct ByteRange {
  const char* name = "";
  std::uintptr_t begin = 0;
  std::uintptr_t end = 0;

  bool overlaps(const ByteRange& other) const { return begin < other.end && other.begin < end; }
};

/// Of a checked tensor; empty for an absent or empty one.
ByteRange range_of(const char* name, const Tensor& tensor);

}  // namespace blockmoe::api
