// tensor_check.cpp: faults in words.
#include "api/tensor_check.hpp"

#include <algorithm>
#include <span>
#include <string>

#include "api/refusal.hpp"

namespace blockmoe::api {
namespace {

std::span<const std::int64_t> first(const std::int64_t* values, std::int32_t count) {
  return {values, static_cast<std::size_t>(std::clamp(count, 0, kMaxRank))};
}

std::string text_of_shape(const Tensor& tensor) {
  return text_of(first(tensor.shape.data(), tensor.rank));
}

std::string text_of_strides(const Tensor& tensor) {
  return join("strides ", text_of(first(tensor.stride.data(), tensor.rank)));
}

// "[T, 7168]" while T is unknown.
std::string text_of_sizes(const TensorRule& rule, const Sizes& sizes) {
  return sizes[0] == kUnknownTokens ? join("[T, ", sizes[1], "]") : text_of(first(sizes.data(), rule.rank));
}

}  // namespace

Status TensorCheck::refuse(Fault fault) const {
  switch (fault) {
    case Fault::none:
      break;
    case Fault::shape:
      return refuse_shape();
    case Fault::type: {
      const auto& [one, other] = rule.dtypes;
      const std::string allowed = one == other ? text_of(one) : join(text_of(one), " or ", text_of(other));
      return api::refuse(rule.name, join("type ", text_of(tensor.dtype)), allowed);
    }
    case Fault::device:
      return api::refuse(rule.name, join("device ", text_of(tensor.device)), text_of(device), "the plan's device");
    case Fault::gaps:
      return refuse_gaps();
    case Fault::pitch:
      return refuse_pitch();
    case Fault::null:
      return api::refuse(rule.name, "null data", "the address of its first element");
    case Fault::alignment:
      return api::refuse(rule.name, join("address ", text_of(tensor.data)),
                         join("a multiple of ", alignment(), " bytes"));
  }
  return {};
}

Status TensorCheck::refuse_shape() const {
  std::string found = join("shape ", text_of_shape(tensor));
  if (is_absent(tensor)) found = "absent";
  if (tensor.rank < 0 || tensor.rank > kMaxRank) found = join("rank ", tensor.rank);
  const std::string because = source == nullptr ? join(rule.axes, " of the plan")
                                                : join(rule.source, " is ", text_of_shape(*source), rule.source_detail);
  return api::refuse(rule.name, found, text_of_sizes(rule, sizes), because);
}

Status TensorCheck::refuse_gaps() const {
  if (rule.pitch_multiple != 0) {
    return api::refuse(rule.name, text_of_strides(tensor), "[pitch, 1]",
                       join("the last axis of ", rule.axes, " has no gaps"));
  }
  Sizes dense{};
  std::int64_t step = 1;
  for (auto axis = static_cast<std::size_t>(rule.rank); axis-- > 0; step *= sizes[axis]) dense[axis] = step;
  return api::refuse(rule.name, text_of_strides(tensor), text_of(first(dense.data(), rule.rank)), "no gaps");
}

Status TensorCheck::refuse_pitch() const {
  const std::string multiple = rule.pitch_multiple == 1 ? "" : join("a multiple of ", rule.pitch_multiple, " ");
  return api::refuse(rule.name, join("row pitch ", pitch_of(tensor), " elements"),
                     join(multiple, "from ", tensor.dim(1), " to ", rule.most_pitch));
}

}  // namespace blockmoe::api
