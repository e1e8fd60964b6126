// random_call.hpp: whole calls on small geometries, drawn from a seed, with everything that may go wrong in one.
//
// Memory between rows and after them holds NaN, so that reading it shows.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <random>
#include <string>
#include <vector>

#include "contract/call.h"
#include "contract/geometry.h"
#include "contract/intermediate.h"
#include "contract/pruning.h"

namespace blockmoe::test {

enum class Logits {
  normal,
  equal,        // all the same
  few_values,   // ties everywhere
  near_ties,    // a few fp32 steps apart
  wide,         // -120..120: sigmoid saturates at both ends
  tiny_scores,  // -110..-80: subnormal scores
  all_nan,
  special,     // NaN, infinities, the largest and smallest numbers among normal ones
  one_expert,  // one local expert takes every token
  none_local,  // no local expert takes any
};

enum class Bias { absent, normal, few_values, huge, special };

enum class Scales {
  normal,  // half of them negative, some near 0
  small,   // as a model's
  mixed,   // 2^-12..2^12
  with_zeros,
  subnormal,
  huge,     // sums overflow fp32
  special,  // NaN and infinities in a few places
};

enum class Codes {
  normal,      // of normal numbers, without NaN
  any_finite,  // every finite code alike
  nan_row,     // a NaN in one token's row
  nan_expert,  // a NaN in one local expert's weights
};

struct CallRecipe {
  std::uint64_t seed = 0;
  contract::Geometry geometry;
  std::int64_t tokens = 0;
  std::int32_t local_expert_offset = 0;
  float routed_scaling_factor = 2.5F;
  bool gate_first = false;
  bool pitched = false;
  contract::FloatType logits_type = contract::FloatType::f32;
  contract::FloatType bias_type = contract::FloatType::bf16;
  Logits logits = Logits::normal;
  Bias bias = Bias::normal;
  Scales scales = Scales::normal;
  Codes codes = Codes::normal;
  contract::Pruning pruning = {};
  contract::IntermediateType intermediate_type = contract::IntermediateType::e4m3;
};

/// A recipe with a random geometry, T, offset, pitches and types; of the profiles only the plain ones.
CallRecipe random_recipe(std::uint64_t seed);

/// The token of Codes::nan_row and the local expert of Codes::nan_expert. The other codes are those of Codes::normal.
std::int64_t poisoned_token(const CallRecipe& recipe);
std::int32_t poisoned_expert(const CallRecipe& recipe);

std::ostream& operator<<(std::ostream& stream, const CallRecipe& recipe);

class RandomCall {
 public:
  explicit RandomCall(const CallRecipe& recipe);

  const CallRecipe& recipe() const { return recipe_; }
  const contract::Geometry& geometry() const { return recipe_.geometry; }
  const contract::Weights& weights() const { return weights_; }
  const contract::Activations& activations() const { return activations_; }

  /// [E] as fp32, zeros where the bias is absent; [T, E] as fp32.
  const std::vector<float>& bias() const { return bias_; }
  const std::vector<float>& logits() const { return logits_; }

 private:
  void draw_logits(std::mt19937_64& random);
  void draw_bias(std::mt19937_64& random);
  void draw_hidden(std::mt19937_64& random);
  void draw_weights(std::mt19937_64& random);

  CallRecipe recipe_;
  contract::Weights weights_;
  contract::Activations activations_;

  std::vector<float> logits_;
  std::vector<float> bias_;
  std::vector<std::uint8_t> logits_memory_;
  std::vector<std::uint8_t> bias_memory_;
  std::vector<std::uint8_t> hidden_;
  std::vector<float> hidden_scale_;
  std::vector<std::uint8_t> w13_;
  std::vector<float> w13_scale_;
  std::vector<std::uint8_t> w2_;
  std::vector<float> w2_scale_;
};

}  // namespace blockmoe::test
