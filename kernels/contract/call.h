// call.h: one call as every backend receives it: checked at the library's door, then trusted.
//
// Pitches are in elements. T is the number of tokens of the call.
#pragma once

#include <cstdint>

#include "contract/geometry.h"

namespace blockmoe::contract {

enum class FloatType : std::int32_t { f32, bf16 };

struct Weights {
  const void* routing_bias = nullptr;  // [E] of routing_bias_type; null counts as zeros
  FloatType routing_bias_type = FloatType::bf16;
  const std::uint8_t* w13 = nullptr;     // [L, 2I, H] e4m3, contiguous
  const float* w13_scale = nullptr;      // [L, 2I/128, H/128], contiguous
  const std::uint8_t* w2 = nullptr;      // [L, H, I] e4m3, contiguous
  const float* w2_scale = nullptr;       // [L, H/128, I/128], contiguous
  std::int32_t local_expert_offset = 0;  // global number of local expert 0; any value
  float routed_scaling_factor = 1.0f;
  bool gate_first = false;  // rows of w13: false = up then gate, true = gate then up

  // First row of each half of an expert's w13, in rows; `intermediate` is I.
  std::int64_t up_row(std::int64_t intermediate) const { return gate_first ? intermediate : 0; }
  std::int64_t gate_row(std::int64_t intermediate) const { return gate_first ? 0 : intermediate; }
};

struct Activations {
  std::int64_t tokens = 0;               // T
  const void* routing_logits = nullptr;  // [T, E] of routing_logits_type
  FloatType routing_logits_type = FloatType::f32;
  std::int64_t routing_logits_pitch = 0;  // from token to token
  const std::uint8_t* hidden = nullptr;   // [T, H] e4m3
  std::int64_t hidden_pitch = 0;          // from token to token
  const float* hidden_scale = nullptr;    // [H/128, T]
  std::int64_t hidden_scale_pitch = 0;    // from K block to K block; >= T
  void* output = nullptr;                 // [T, H] of output_type: f32 is the sum before its rounding
  FloatType output_type = FloatType::bf16;
  std::int64_t output_pitch = 0;  // from token to token

  std::int64_t output_bytes() const { return output_type == FloatType::f32 ? 4 : 2; }  // of an element
};

// Routing that the caller did: in place of logits, where it is given.
struct Picks {
  const std::int32_t* experts = nullptr;  // [T, top_k] global numbers, any values
  std::int64_t experts_pitch = 0;         // from token to token
  const float* weights = nullptr;         // [T, top_k]
  std::int64_t weights_pitch = 0;         // from token to token
};

// Where routing alone leaves the picks of the whole layer, in pick order: contiguous.
struct RoutedPicks {
  std::int32_t* experts = nullptr;  // [T, top_k] global numbers
  float* weights = nullptr;         // [T, top_k]
};

}  // namespace blockmoe::contract
