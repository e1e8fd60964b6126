#include "workload/placed.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "workload/buffer.hpp"
#include "workload/error.hpp"

namespace blockmoe::workload {
namespace {

constexpr std::size_t kCodeAlignment = 16;  // that the library asks of e4m3 tensors

}  // namespace

Shapes::Shapes(const contract::Geometry& g, std::int64_t tokens)
    : routing_logits{tokens, g.experts},
      routing_bias{g.experts},
      hidden_states{tokens, g.hidden},
      hidden_states_scale{g.hidden_blocks(), tokens},
      gemm1_weights{g.local_experts, 2 * g.intermediate, g.hidden},
      gemm1_weights_scale{g.local_experts, 2 * g.intermediate_blocks(), g.hidden_blocks()},
      gemm2_weights{g.local_experts, g.hidden, g.intermediate},
      gemm2_weights_scale{g.local_experts, g.hidden_blocks(), g.intermediate_blocks()} {}

std::int64_t elements_of(const Shape& shape) {
  std::int64_t count = 1;
  for (const std::int64_t size : shape) count *= size;
  return count;
}

std::string text_of(const Shape& shape) {
  std::string text;
  for (const std::int64_t size : shape) text += fmt::format("{}{}", text.empty() ? "" : ", ", size);
  return "[" + text + "]";
}

contract::FloatType float_type(ElementType type) {
  return type == ElementType::bf16 ? contract::FloatType::bf16 : contract::FloatType::f32;
}

Result<Placed> place(const SafetensorsFile& file, const std::string& name, Types types, const Shape& shape) {
  const auto found = file.find(name);
  if (!found.ok()) return found.status();
  const TensorView& view = found.value();
  if (std::find(types.begin(), types.end(), view.type) == types.end()) {
    return invalid("{}: tensor {}: type {}, expected {}", file.name(), in_quotes(name), type_name(view.type),
                   type_name(*types.begin()));
  }
  if (view.shape != shape) {
    return invalid("{}: tensor {}: shape {}, expected {}", file.name(), in_quotes(name), text_of(view.shape),
                   text_of(shape));
  }
  const std::size_t alignment = type_bytes(view.type) == 1 ? kCodeAlignment : type_bytes(view.type);
  if (reinterpret_cast<std::uintptr_t>(view.data) % alignment == 0) {
    return Placed{view.data, view.type, std::make_shared<SafetensorsFile>(file)};
  }
  auto copy = Buffer::allocate(view.bytes);
  if (!copy.ok()) return copy.status();
  if (view.bytes > 0) std::memcpy(copy.value()->as<void>(), view.data, view.bytes);
  return Placed{copy.value()->as<void>(), view.type, copy.value()};
}

Inputs frame_of(const contract::Geometry& geometry, std::int64_t tokens, std::int32_t local_expert_offset,
                float routed_scaling_factor) {
  Inputs inputs;
  inputs.geometry = geometry;
  inputs.weights.local_expert_offset = local_expert_offset;
  inputs.weights.routed_scaling_factor = routed_scaling_factor;
  inputs.activations.tokens = tokens;
  inputs.activations.routing_logits_pitch = geometry.experts;
  inputs.activations.hidden_pitch = geometry.hidden;
  inputs.activations.hidden_scale_pitch = tokens;
  return inputs;
}

}  // namespace blockmoe::workload
