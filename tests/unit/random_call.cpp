#include "random_call.hpp"

#include <algorithm>
#include <bit>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <limits>
#include <ostream>

namespace blockmoe::test {
namespace {

using contract::FloatType;
using Random = std::mt19937_64;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr std::uint8_t kNaNCode = 0x7f;
constexpr std::size_t kAlignment = 64;

std::size_t size(std::int64_t count) {
  return static_cast<std::size_t>(count);
}

template <typename Value>
Value pick(Random& random, const std::vector<Value>& values) {
  return values[random() % values.size()];
}

float normal(Random& random) {
  return std::normal_distribution<float>()(random);
}
float uniform(Random& random, float low, float high) {
  return std::uniform_real_distribution<float>(low, high)(random);
}
bool one_in(Random& random, std::uint64_t count) {
  return random() % count == 0;
}

float round_to_bf16(float x) {
  if (std::isnan(x)) return x;
  const auto bits = std::bit_cast<std::uint32_t>(x);
  return std::bit_cast<float>((bits + 0x7fffU + ((bits >> 16) & 1U)) & 0xffff0000U);
}

std::int64_t bytes_of(FloatType type) {
  return type == FloatType::f32 ? 4 : 2;
}

/// Writes a number that the type holds exactly.
void store(float value, FloatType type, std::uint8_t* to) {
  if (type == FloatType::f32) {
    std::memcpy(to, &value, sizeof value);
  } else {
    const auto bits = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16);
    std::memcpy(to, &bits, sizeof bits);
  }
}

float draw_scale(Random& random, Scales scales) {
  switch (scales) {
    case Scales::normal:
      return normal(random);
    case Scales::small:
      return uniform(random, 1e-4F, 1e-2F);
    case Scales::mixed:
      return std::exp2(uniform(random, -12.0F, 12.0F)) * (one_in(random, 2) ? 1.0F : -1.0F);
    case Scales::with_zeros:
      return one_in(random, 3) ? 0.0F : normal(random);
    case Scales::subnormal:
      return normal(random) * 1e-39F;
    case Scales::huge:
      return normal(random) * 1e18F;
    case Scales::special:
      return one_in(random, 40) ? pick<float>(random, {kNaN, kInf, -kInf}) : normal(random);
  }
  return 0.0F;
}

std::vector<float> draw_scales(Random& random, Scales scales, std::int64_t count) {
  std::vector<float> drawn(size(count));
  for (float& scale : drawn) scale = draw_scale(random, scales);
  return drawn;
}

std::uint8_t draw_code(Random& random, Codes codes) {
  if (codes == Codes::any_finite) {
    const auto code = static_cast<std::uint8_t>(random());
    return (code & 0x7fU) == 0x7fU ? std::uint8_t{0} : code;
  }
  // Exponents of a normal number's magnitude: 2^-5..2^1 with falling odds, any mantissa and sign.
  const int exponent = 7 + 1 - std::min(6, std::countr_zero(random() | 0x40U));
  return static_cast<std::uint8_t>((random() & 0x87U) | static_cast<unsigned>(exponent << 3));
}

/// Codes with room for the alignment that the library asks for; `first` is where they begin.
std::vector<std::uint8_t> draw_codes(Random& random, Codes codes, std::int64_t rows, std::int64_t width,
                                     std::int64_t pitch, std::size_t& first) {
  std::vector<std::uint8_t> drawn(size(rows * pitch) + kAlignment, kNaNCode);
  const auto address = reinterpret_cast<std::uintptr_t>(drawn.data());
  first = (kAlignment - address % kAlignment) % kAlignment;
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t i = 0; i < width; ++i) drawn[first + size(r * pitch + i)] = draw_code(random, codes);
  }
  return drawn;
}

float draw_logit(Random& random, Logits logits) {
  switch (logits) {
    case Logits::equal:
      return 0.7F;
    case Logits::few_values:
      return pick<float>(random, {-1.0F, 0.0F, -0.0F, 0.5F});
    case Logits::near_ties:
      return std::bit_cast<float>(std::bit_cast<std::uint32_t>(0.3F) + static_cast<std::uint32_t>(random() % 400));
    case Logits::wide:
      return uniform(random, -120.0F, 120.0F);
    case Logits::tiny_scores:
      return uniform(random, -110.0F, -80.0F);
    case Logits::all_nan:
      return kNaN;
    case Logits::special:
      return one_in(random, 3) ? pick<float>(random, {kNaN, -kNaN, kInf, -kInf, FLT_MAX, -FLT_MAX, FLT_TRUE_MIN})
                               : normal(random);
    default:
      return normal(random);
  }
}

float draw_bias_value(Random& random, Bias bias) {
  switch (bias) {
    case Bias::absent:
      return 0.0F;
    case Bias::normal:
      return 0.1F * normal(random);
    case Bias::few_values:
      return pick<float>(random, {0.0F, -0.0F, 0.5F});
    case Bias::huge:
      return pick<float>(random, {1e4F, 1e30F, -1e30F, 3e38F, -3e38F});
    case Bias::special:
      return one_in(random, 3) ? pick<float>(random, {kNaN, kInf, -kInf, FLT_MAX, -FLT_MAX}) : normal(random);
  }
  return 0.0F;
}

contract::Geometry draw_geometry(Random& random) {
  contract::Geometry geometry;
  geometry.hidden = 128 * static_cast<std::int64_t>(1 + random() % 4);
  geometry.intermediate = 128 * static_cast<std::int64_t>(1 + random() % 4);
  geometry.experts = pick<std::int32_t>(random, {1, 2, 3, 6, 8, 12, 16, 30, 32, 48, 64});
  std::vector<std::int32_t> groups;
  for (std::int32_t n = 1; n <= geometry.experts; ++n) {
    if (geometry.experts % n == 0) groups.push_back(n);
  }
  geometry.n_group = pick(random, groups);
  geometry.topk_group = 1 + static_cast<std::int32_t>(random() % size(geometry.n_group));
  const std::int32_t eligible = geometry.topk_group * geometry.experts_per_group();
  geometry.top_k = 1 + static_cast<std::int32_t>(random() % size(std::min(eligible, contract::kMaxTopK)));
  geometry.local_experts = 1 + static_cast<std::int32_t>(random() % size(std::min(geometry.experts, 12)));
  return geometry;
}

}  // namespace

CallRecipe random_recipe(std::uint64_t seed) {
  Random random(seed);
  CallRecipe recipe;
  recipe.seed = seed;
  recipe.geometry = draw_geometry(random);
  recipe.tokens = static_cast<std::int64_t>(one_in(random, 4) ? random() % 3 : random() % 71);
  // Mostly a rank's own part of the experts; else anywhere, outside too.
  recipe.local_expert_offset =
      one_in(random, 3)
          ? static_cast<std::int32_t>(random() % 160) - 80
          : static_cast<std::int32_t>(random() % size(recipe.geometry.experts - recipe.geometry.local_experts + 1));
  recipe.routed_scaling_factor = pick<float>(random, {2.5F, 1.0F, -0.5F, 16.0F});
  recipe.gate_first = one_in(random, 2);
  recipe.pitched = one_in(random, 2);
  recipe.logits_type = one_in(random, 3) ? FloatType::bf16 : FloatType::f32;
  recipe.bias_type = one_in(random, 3) ? FloatType::f32 : FloatType::bf16;
  recipe.bias = one_in(random, 4) ? Bias::absent : Bias::normal;
  return recipe;
}

std::int64_t poisoned_token(const CallRecipe& recipe) {
  return recipe.tokens / 2;
}

std::int32_t poisoned_expert(const CallRecipe& recipe) {
  return recipe.geometry.local_experts / 2;
}

std::ostream& operator<<(std::ostream& stream, const CallRecipe& recipe) {
  const contract::Geometry& g = recipe.geometry;
  return stream << "seed " << recipe.seed << ": T " << recipe.tokens << " H " << g.hidden << " I " << g.intermediate
                << " E " << g.experts << " L " << g.local_experts << " at " << recipe.local_expert_offset << " top_k "
                << g.top_k << " groups " << g.topk_group << "/" << g.n_group << " factor "
                << recipe.routed_scaling_factor << (recipe.gate_first ? " gate_first" : "")
                << (recipe.pitched ? " pitched" : "") << " logits " << static_cast<int>(recipe.logits) << " of type "
                << static_cast<int>(recipe.logits_type) << " bias " << static_cast<int>(recipe.bias) << " of type "
                << static_cast<int>(recipe.bias_type) << " scales " << static_cast<int>(recipe.scales) << " codes "
                << static_cast<int>(recipe.codes) << " pruning " << recipe.pruning.max_local_picks << ", "
                << recipe.pruning.min_weight_share << " terms " << contract::terms_of(recipe.intermediate_type);
}

RandomCall::RandomCall(const CallRecipe& recipe) : recipe_(recipe) {
  Random random(recipe.seed * 0x9e3779b97f4a7c15U + 1);
  weights_.local_expert_offset = recipe.local_expert_offset;
  weights_.routed_scaling_factor = recipe.routed_scaling_factor;
  weights_.gate_first = recipe.gate_first;
  activations_.tokens = recipe.tokens;
  draw_logits(random);
  draw_bias(random);
  draw_hidden(random);
  draw_weights(random);
}

void RandomCall::draw_logits(Random& random) {
  const std::int64_t experts = recipe_.geometry.experts;
  const std::int64_t pitch = experts + (recipe_.pitched ? 3 : 0);
  const std::int64_t bytes = bytes_of(recipe_.logits_type);
  const std::int32_t offset = recipe_.local_expert_offset;
  logits_memory_.assign(size((recipe_.tokens * pitch + 1) * bytes), 0xff);  // NaN in either type
  for (std::int64_t t = 0; t < recipe_.tokens; ++t) {
    for (std::int64_t e = 0; e < experts; ++e) {
      float logit = draw_logit(random, recipe_.logits);
      const bool local = e >= offset && e < std::int64_t{offset} + recipe_.geometry.local_experts;
      if (recipe_.logits == Logits::one_expert && e == offset) logit = 30.0F;
      if (recipe_.logits == Logits::none_local && local) logit = -90.0F;
      if (recipe_.logits_type == FloatType::bf16) logit = round_to_bf16(logit);
      logits_.push_back(logit);
      store(logit, recipe_.logits_type, logits_memory_.data() + (t * pitch + e) * bytes);
    }
  }
  activations_.routing_logits = logits_memory_.data();
  activations_.routing_logits_type = recipe_.logits_type;
  activations_.routing_logits_pitch = pitch;
}

void RandomCall::draw_bias(Random& random) {
  const std::int64_t bytes = bytes_of(recipe_.bias_type);
  bias_memory_.assign(size((recipe_.geometry.experts + 1) * bytes), 0xff);
  for (std::int64_t e = 0; e < recipe_.geometry.experts; ++e) {
    float bias = draw_bias_value(random, recipe_.bias);
    if (recipe_.bias_type == FloatType::bf16) bias = round_to_bf16(bias);
    bias_.push_back(bias);
    store(bias, recipe_.bias_type, bias_memory_.data() + e * bytes);
  }
  weights_.routing_bias = recipe_.bias == Bias::absent ? nullptr : bias_memory_.data();
  weights_.routing_bias_type = recipe_.bias_type;
}

void RandomCall::draw_hidden(Random& random) {
  const contract::Geometry& g = recipe_.geometry;
  const std::int64_t tokens = recipe_.tokens;
  const std::int64_t pitch = g.hidden + (recipe_.pitched ? 48 : 0);
  const std::int64_t scale_pitch = tokens + (recipe_.pitched ? 5 : 0);
  std::size_t first = 0;
  hidden_ = draw_codes(random, recipe_.codes, tokens, g.hidden, pitch, first);
  hidden_scale_.assign(size(g.hidden_blocks() * scale_pitch + 1), kNaN);
  for (std::int64_t b = 0; b < g.hidden_blocks(); ++b) {
    for (std::int64_t t = 0; t < tokens; ++t) {
      hidden_scale_[size(b * scale_pitch + t)] = draw_scale(random, recipe_.scales);
    }
  }
  if (recipe_.codes == Codes::nan_row && tokens > 0) {
    hidden_[first + size(poisoned_token(recipe_) * pitch) + recipe_.seed % size(g.hidden)] = kNaNCode;
  }
  activations_.hidden = hidden_.data() + first;
  activations_.hidden_pitch = pitch;
  activations_.hidden_scale = hidden_scale_.data();
  activations_.hidden_scale_pitch = scale_pitch;
}

void RandomCall::draw_weights(Random& random) {
  const contract::Geometry& g = recipe_.geometry;
  const std::int64_t rows13 = g.local_experts * 2 * g.intermediate;
  const std::int64_t rows2 = g.local_experts * g.hidden;
  std::size_t first13 = 0;
  std::size_t first2 = 0;
  w13_ = draw_codes(random, recipe_.codes, rows13, g.hidden, g.hidden, first13);
  w2_ = draw_codes(random, recipe_.codes, rows2, g.intermediate, g.intermediate, first2);
  w13_scale_ = draw_scales(random, recipe_.scales, rows13 / 128 * g.hidden_blocks());
  w2_scale_ = draw_scales(random, recipe_.scales, rows2 / 128 * g.intermediate_blocks());
  if (recipe_.codes == Codes::nan_expert) {
    // In w13 a NaN reaches all columns of the output, in w2 one.
    const std::size_t expert = size(poisoned_expert(recipe_));
    const std::size_t of_expert = size(g.hidden * g.intermediate);
    if (recipe_.seed % 2 == 0) {
      w13_[first13 + expert * 2 * of_expert + recipe_.seed % (2 * of_expert)] = kNaNCode;
    } else {
      w2_[first2 + expert * of_expert + recipe_.seed % of_expert] = kNaNCode;
    }
  }
  weights_.w13 = w13_.data() + first13;
  weights_.w2 = w2_.data() + first2;
  weights_.w13_scale = w13_scale_.data();
  weights_.w2_scale = w2_scale_.data();
}

}  // namespace blockmoe::test
