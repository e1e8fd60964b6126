// placed.hpp: one tensor of an Inputs: where it lies and what keeps it. Private to the folder's .cpp files.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "blockmoe/status.hpp"
#include "contract/call.h"
#include "contract/geometry.h"
#include "workload/inputs.hpp"
#include "workload/safetensors.hpp"

namespace blockmoe::workload {

using Shape = std::vector<std::int64_t>;
using Types = std::span<const ElementType>;

// What a file may hold for a tensor; the first is what messages ask for.
inline constexpr std::array kFloatTypes = {ElementType::f32, ElementType::bf16};
inline constexpr std::array kCodeTypes = {ElementType::f8_e4m3, ElementType::u8};
inline constexpr std::array kScaleTypes = {ElementType::f32};

/// Shapes of the operator's tensors.
struct Shapes {
  Shape routing_logits, routing_bias, hidden_states, hidden_states_scale;
  Shape gemm1_weights, gemm1_weights_scale, gemm2_weights, gemm2_weights_scale;

  Shapes(const contract::Geometry& geometry, std::int64_t tokens);
};

std::int64_t elements_of(const Shape& shape);
std::string text_of(const Shape& shape);  ///< "[32, 56]"
contract::FloatType float_type(ElementType type);

struct Placed {
  const void* data = nullptr;
  ElementType type = ElementType::f32;
  std::shared_ptr<const void> owner;
};

/// The tensor of a file, in place where its alignment allows it, else copied. Errors name the file and the tensor.
Result<Placed> place(const SafetensorsFile& file, const std::string& name, Types types, const Shape& shape);

/// An Inputs with sizes, pitches and scalars: all that is not a tensor.
Inputs frame_of(const contract::Geometry& geometry, std::int64_t tokens, std::int32_t local_expert_offset,
                float routed_scaling_factor);

}  // namespace blockmoe::workload
