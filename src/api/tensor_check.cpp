#include "api/tensor_check.hpp"

#include <algorithm>

#include "api/refusal.hpp"
#include "api/return_if_error.hpp"

namespace blockmoe::api {
namespace {

std::span<const std::int64_t> sizes_of(const Tensor& tensor) {
  return std::span(tensor.shape).first(static_cast<std::size_t>(std::clamp(tensor.rank, 0, kMaxRank)));
}

bool has_elements(const Tensor& tensor) {
  const auto sizes = sizes_of(tensor);
  return std::find(sizes.begin(), sizes.end(), 0) == sizes.end();
}

// As text_of(sizes), with T where the number of tokens is unknown.
std::string text_of_expected(const ExpectedTensor& expected) {
  if (expected.shape[0] != kUnknownTokens) return text_of(expected.sizes());
  return join("[T, ", expected.shape[1], "]");
}

Status check_shape(const Tensor& tensor, const ExpectedTensor& expected) {
  if (tensor.rank == expected.rank && std::ranges::equal(sizes_of(tensor), expected.sizes())) return {};

  std::string found = join("shape ", text_of(sizes_of(tensor)));
  if (is_absent(tensor)) found = "absent";
  if (tensor.rank < 0 || tensor.rank > kMaxRank) found = join("rank ", tensor.rank);
  const std::string because =
      expected.source == nullptr
          ? join(expected.axes, " of the plan")
          : join(expected.source_name, " is ", text_of(sizes_of(*expected.source)), expected.source_detail);
  return refuse(expected.name, found, text_of_expected(expected), because);
}

Status check_dtype(const Tensor& tensor, const ExpectedTensor& expected) {
  const auto& [first, second] = expected.dtypes;
  if (tensor.dtype == first || tensor.dtype == second) return {};
  const std::string allowed = first == second ? text_of(first) : join(text_of(first), " or ", text_of(second));
  return refuse(expected.name, join("type ", text_of(tensor.dtype)), allowed);
}

Status check_device(const Tensor& tensor, const ExpectedTensor& expected, Device device) {
  if (tensor.device == device) return {};
  return refuse(expected.name, join("device ", text_of(tensor.device)), text_of(device), "the plan's device");
}

Status check_dense(const Tensor& tensor, const ExpectedTensor& expected) {
  std::array<std::int64_t, 3> dense{};
  std::int64_t step = 1;
  bool same = true;
  for (int axis = expected.rank - 1; axis >= 0; --axis) {
    dense[static_cast<std::size_t>(axis)] = step;
    same &= tensor.dim(axis) == 1 || tensor.step(axis) == step;
    step *= tensor.dim(axis);
  }
  if (same) return {};
  const auto axes = static_cast<std::size_t>(expected.rank);
  return refuse(expected.name, join("strides ", text_of(std::span(tensor.stride).first(axes))),
                text_of(std::span(dense).first(axes)), "no gaps");
}

Status check_pitched(const Tensor& tensor, const ExpectedTensor& expected) {
  const std::int64_t width = tensor.dim(1);
  if (width != 1 && tensor.step(1) != 1) {
    return refuse(expected.name, join("strides ", text_of(std::span(tensor.stride).first(2))), join("[pitch, 1]"),
                  join("the last axis of ", expected.axes, " has no gaps"));
  }
  const std::int64_t pitch = pitch_of(tensor);
  if (pitch >= width && pitch <= kMaxPitch && pitch % expected.pitch_multiple == 0) return {};
  const std::string step = expected.pitch_multiple == 1 ? "" : join("a multiple of ", expected.pitch_multiple, " ");
  return refuse(expected.name, join("row pitch ", pitch, " elements"), join(step, "from ", width, " to ", kMaxPitch));
}

}  // namespace

std::int64_t bytes_of(DType dtype) {
  switch (dtype) {
    case DType::float32:
      return 4;
    case DType::bfloat16:
      return 2;
    case DType::float8_e4m3:
      break;
  }
  return 1;
}

Status check_form(const Tensor& tensor, const ExpectedTensor& expected, Device device) {
  BLOCKMOE_RETURN_IF_ERROR(check_shape(tensor, expected));
  BLOCKMOE_RETURN_IF_ERROR(check_dtype(tensor, expected));
  BLOCKMOE_RETURN_IF_ERROR(check_device(tensor, expected, device));
  if (!has_elements(tensor)) return {};
  return expected.pitch_multiple == 0 ? check_dense(tensor, expected) : check_pitched(tensor, expected);
}

Status check_address(const Tensor& tensor, const ExpectedTensor& expected) {
  if (tensor.data == nullptr) return refuse(expected.name, "null data", "the address of its first element");
  if (reinterpret_cast<std::uintptr_t>(tensor.data) % static_cast<std::uintptr_t>(expected.alignment) == 0) return {};
  return refuse(expected.name, join("address ", text_of(tensor.data)),
                join("a multiple of ", expected.alignment, " bytes"));
}

ByteRange range_of(const char* name, const Tensor& tensor) {
  if (tensor.data == nullptr || !has_elements(tensor)) return {name, 0, 0};
  std::int64_t last = 0;
  for (int axis = 0; axis < tensor.rank; ++axis) {
    if (tensor.dim(axis) > 1) last += (tensor.dim(axis) - 1) * tensor.step(axis);
  }
  const auto begin = reinterpret_cast<std::uintptr_t>(tensor.data);
  return {name, begin, begin + static_cast<std::uintptr_t>((last + 1) * bytes_of(tensor.dtype))};
}

}  // namespace blockmoe::api
