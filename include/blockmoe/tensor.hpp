// tensor.hpp: memory that the caller owns, described.
//
// The layout of every type here is frozen: callers hold them by value, and other structs embed them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>

namespace blockmoe {

enum class DType : std::int32_t { float32 = 0, bfloat16 = 1, float8_e4m3 = 2, int32 = 3 };

enum class DeviceType : std::int32_t { cpu = 0, cuda = 1 };

struct Device {
  DeviceType type = DeviceType::cpu;
  std::int32_t index = 0;  ///< ordinal of a CUDA device; 0 for the CPU

  friend bool operator==(const Device& a, const Device& b) { return a.type == b.type && a.index == b.index; }
  friend bool operator!=(const Device& a, const Device& b) { return !(a == b); }
};

/// Dimensions that a Tensor can describe.
inline constexpr std::int32_t kMaxRank = 4;

/// A view. The library writes only through the tensor passed as `output`; every other one is read.
struct Tensor {
  void* data = nullptr;
  DType dtype = DType::float32;
  Device device;
  std::int32_t rank = 0;  ///< 0 with data == nullptr: an absent optional tensor
  std::array<std::int64_t, kMaxRank> shape{};
  std::array<std::int64_t, kMaxRank> stride{};  ///< in elements; that of a dimension of size 1 is not looked at

  std::int64_t dim(int axis) const { return shape[static_cast<std::size_t>(axis)]; }
  std::int64_t step(int axis) const { return stride[static_cast<std::size_t>(axis)]; }

  /// A row-major tensor without gaps. More than kMaxRank dimensions leave a rank that every call refuses.
  static Tensor contiguous(const void* data, DType dtype, Device device, std::initializer_list<std::int64_t> dims) {
    Tensor t;
    t.data = const_cast<void*>(data);  // NOLINT(cppcoreguidelines-pro-type-const-cast): see the struct's comment
    t.dtype = dtype;
    t.device = device;
    t.rank = static_cast<std::int32_t>(dims.size());
    std::size_t axis = 0;
    for (const std::int64_t d : dims) {
      if (axis < kMaxRank) t.shape[axis++] = d;
    }
    std::uint64_t step = 1;  // unsigned: a nonsense shape wraps here and is refused by the call
    while (axis-- > 0) {
      t.stride[axis] = static_cast<std::int64_t>(step);
      step *= static_cast<std::uint64_t>(t.shape[axis]);
    }
    return t;
  }

  /// A 2-D tensor whose rows stand `pitch` elements apart.
  static Tensor pitched(const void* data, DType dtype, Device device, std::int64_t rows, std::int64_t columns,
                        std::int64_t pitch) {
    Tensor t = contiguous(data, dtype, device, {rows, columns});
    t.stride[0] = pitch;
    return t;
  }
};

}  // namespace blockmoe
