// tensor_check.hpp: one tensor against what the plan says it must be.
//
// Finding a fault and putting it into words are apart: run() stands in the launch path of a decode step, so an accepted
// tensor costs a few compares and no message is made.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "blockmoe/status.hpp"
#include "blockmoe/tensor.hpp"

namespace blockmoe::api {

/// Rows of a pitched tensor stand at most this far apart, so that no offset in bytes reaches 2^63 (T is at most 2^30).
inline constexpr std::int64_t kMaxPitch = std::int64_t{1} << 31;

/// First size of a 2-D shape while the number of tokens is not known.
inline constexpr std::int64_t kUnknownTokens = -1;

/// What holds for an argument in every plan and every call.
struct TensorRule {
  const char* name;
  const char* axes;  // "[L, 2I, H]"
  std::int32_t rank;
  std::array<DType, 2> dtypes;      // either; the same twice where only one will do
  std::int64_t alignment = 0;       // of the address, in bytes; 0 = the type's own size
  std::int64_t pitch_multiple = 0;  // 2-D: rows may stand a multiple of so many elements apart; 0 = no gaps at all
  std::int64_t most_pitch = kMaxPitch;
  bool optional = false;           // absent will do
  const char* source = nullptr;    // the argument that the shape follows from, for the message; none: the plan
  const char* source_detail = "";  // ", blocks of 128"
};

using Sizes = std::array<std::int64_t, 3>;  // the first `rank` of them count

enum class Fault { none, shape, type, device, gaps, pitch, null, alignment };

inline std::int64_t bytes_of(DType dtype) {
  if (dtype == DType::float32 || dtype == DType::int32) return 4;
  return dtype == DType::bfloat16 ? 2 : 1;
}

/// Neither data nor a shape.
inline bool is_absent(const Tensor& tensor) {
  return tensor.data == nullptr && tensor.rank == 0;
}

/// From row to row of a checked 2-D tensor, in elements; its width where there is no second row.
inline std::int64_t pitch_of(const Tensor& tensor) {
  return tensor.dim(0) > 1 ? tensor.step(0) : tensor.dim(1);
}

struct TensorCheck {
  const Tensor& tensor;
  const TensorRule& rule;
  Sizes sizes;
  Device device;
  const Tensor* source = nullptr;  // the tensor that rule.source names

  /// Everything but the address. Strides of an empty tensor are not looked at.
  Fault form_fault() const {
    if (!has_shape()) return Fault::shape;
    if (tensor.dtype != rule.dtypes[0] && tensor.dtype != rule.dtypes[1]) return Fault::type;
    if (tensor.device != device) return Fault::device;
    if (is_empty()) return Fault::none;
    return rule.pitch_multiple == 0 ? dense_fault() : pitch_fault();
  }

  /// For a tensor without a form_fault.
  Fault address_fault() const {
    if (tensor.data == nullptr) return Fault::null;
    const auto address = reinterpret_cast<std::uintptr_t>(tensor.data);
    return address % static_cast<std::uintptr_t>(alignment()) == 0 ? Fault::none : Fault::alignment;
  }

  /// The words for a fault.
  Status refuse(Fault fault) const;

 private:
  bool has_shape() const {
    if (tensor.rank != rule.rank) return false;
    for (int axis = 0; axis < rule.rank; ++axis) {
      if (tensor.dim(axis) != sizes[static_cast<std::size_t>(axis)]) return false;
    }
    return true;
  }

  bool is_empty() const {
    for (int axis = 0; axis < rule.rank; ++axis) {
      if (tensor.dim(axis) == 0) return true;
    }
    return false;
  }

  Fault dense_fault() const {
    std::int64_t step = 1;
    for (int axis = rule.rank - 1; axis >= 0; --axis) {
      if (tensor.dim(axis) != 1 && tensor.step(axis) != step) return Fault::gaps;
      step *= tensor.dim(axis);
    }
    return Fault::none;
  }

  Fault pitch_fault() const {
    if (tensor.dim(1) != 1 && tensor.step(1) != 1) return Fault::gaps;
    const std::int64_t pitch = pitch_of(tensor);
    return pitch >= tensor.dim(1) && pitch <= rule.most_pitch && pitch % rule.pitch_multiple == 0 ? Fault::none
                                                                                                  : Fault::pitch;
  }

  std::int64_t alignment() const { return rule.alignment == 0 ? bytes_of(tensor.dtype) : rule.alignment; }

  Status refuse_shape() const;
  Status refuse_gaps() const;
  Status refuse_pitch() const;
};

/// From the first byte of an argument to behind its last one, gaps between rows included.
struct ByteRange {
  const char* name = "";
  std::uintptr_t begin = 0;
  std::uintptr_t end = 0;

  bool overlaps(const ByteRange& other) const { return begin < other.end && other.begin < end; }
};

/// Of a checked tensor; empty for an absent or empty one.
inline ByteRange range_of(const char* name, const Tensor& tensor) {
  std::int64_t last = 0;
  for (int axis = 0; axis < tensor.rank; ++axis) {
    if (tensor.dim(axis) == 0) return {name, 0, 0};
    if (tensor.dim(axis) > 1) last += (tensor.dim(axis) - 1) * tensor.step(axis);
  }
  if (is_absent(tensor)) return {name, 0, 0};
  const auto begin = reinterpret_cast<std::uintptr_t>(tensor.data);
  return {name, begin, begin + static_cast<std::uintptr_t>((last + 1) * bytes_of(tensor.dtype))};
}

}  // namespace blockmoe::api
