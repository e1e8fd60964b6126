#include "workload/inputs.hpp"

#include <algorithm>
#include <charconv>
#include <system_error>
#include <utility>

#include "workload/buffer.hpp"
#include "workload/error.hpp"

namespace blockmoe::workload {
namespace {

DType public_type(contract::FloatType type) {
  return type == contract::FloatType::bf16 ? DType::bfloat16 : DType::float32;
}

}  // namespace

Result<Profile> parse_profile(std::string_view word) {
  for (const Profile profile : {Profile::official, Profile::model}) {
    if (word == to_string(profile)) return profile;
  }
  return invalid("profile: is \"{}\", expected official or model", word);
}

Result<Skew> parse_skew(std::string_view word) {
  constexpr double kLargestExponent = 16;
  for (const Skew::Kind kind :
       {Skew::Kind::even, Skew::Kind::all_on_one, Skew::Kind::one_row, Skew::Kind::none_local}) {
    if (word == to_string(Skew{kind, 1.0})) return Skew{kind, 1.0};
  }
  constexpr std::string_view kZipf = "zipf";
  if (word == kZipf) return Skew{Skew::Kind::zipf, 1.0};
  double exponent = 0;
  if (word.substr(0, kZipf.size() + 1) == "zipf:") {
    const std::string_view number = word.substr(kZipf.size() + 1);
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), exponent);
    const bool whole = error == std::errc() && end == number.data() + number.size();
    if (whole && exponent >= 0 && exponent <= kLargestExponent) return Skew{Skew::Kind::zipf, exponent};
  }
  return invalid("skew: is \"{}\", expected even, zipf, zipf:S with S in 0..{}, all_on_one, one_row or none_local",
                 word, kLargestExponent);
}

std::string to_string(Profile profile) {
  return profile == Profile::official ? "official" : "model";
}

std::string to_string(const Skew& skew) {
  switch (skew.kind) {
    case Skew::Kind::zipf:
      return fmt::format("zipf:{}", skew.exponent);
    case Skew::Kind::all_on_one:
      return "all_on_one";
    case Skew::Kind::one_row:
      return "one_row";
    case Skew::Kind::none_local:
      return "none_local";
    case Skew::Kind::even:
      break;
  }
  return "even";
}

blockmoe::Geometry Inputs::public_geometry() const {
  blockmoe::Geometry g;
  g.experts = geometry.experts;
  g.hidden = geometry.hidden;
  g.intermediate = geometry.intermediate;
  g.local_experts = geometry.local_experts;
  g.top_k = geometry.top_k;
  g.n_group = geometry.n_group;
  g.topk_group = geometry.topk_group;
  return g;
}

blockmoe::Weights Inputs::public_weights() const {
  const contract::Geometry& g = geometry;
  const Device cpu;
  blockmoe::Weights w;
  w.local_expert_offset = weights.local_expert_offset;
  w.routed_scaling_factor = weights.routed_scaling_factor;
  if (weights.routing_bias != nullptr) {
    w.routing_bias = Tensor::contiguous(weights.routing_bias, public_type(weights.routing_bias_type), cpu, {g.experts});
  }
  w.gemm1_weights =
      Tensor::contiguous(weights.w13, DType::float8_e4m3, cpu, {g.local_experts, 2 * g.intermediate, g.hidden});
  w.gemm1_weights_scale = Tensor::contiguous(weights.w13_scale, DType::float32, cpu,
                                             {g.local_experts, 2 * g.intermediate_blocks(), g.hidden_blocks()});
  w.gemm2_weights =
      Tensor::contiguous(weights.w2, DType::float8_e4m3, cpu, {g.local_experts, g.hidden, g.intermediate});
  w.gemm2_weights_scale = Tensor::contiguous(weights.w2_scale, DType::float32, cpu,
                                             {g.local_experts, g.hidden_blocks(), g.intermediate_blocks()});
  return w;
}

blockmoe::Activations Inputs::public_activations() const {
  const contract::Geometry& g = geometry;
  const Device cpu;
  blockmoe::Activations a;
  a.routing_logits = Tensor::contiguous(activations.routing_logits, public_type(activations.routing_logits_type), cpu,
                                        {tokens(), g.experts});
  a.hidden_states = Tensor::contiguous(activations.hidden, DType::float8_e4m3, cpu, {tokens(), g.hidden});
  a.hidden_states_scale =
      Tensor::contiguous(activations.hidden_scale, DType::float32, cpu, {g.hidden_blocks(), tokens()});
  return a;
}

Result<Inputs> first_tokens(const Inputs& inputs, std::int64_t tokens) {
  const std::int64_t blocks = inputs.geometry.hidden_blocks();
  auto buffer = Buffer::allocate(static_cast<std::size_t>(blocks * tokens) * sizeof(float));
  if (!buffer.ok()) return buffer.status();
  auto* scales = buffer.value()->as<float>();
  for (std::int64_t block = 0; block < blocks; ++block) {
    std::copy_n(inputs.activations.hidden_scale + block * inputs.tokens(), tokens, scales + block * tokens);
  }
  Inputs first = inputs;
  first.activations.tokens = tokens;
  first.activations.hidden_scale = scales;
  first.activations.hidden_scale_pitch = tokens;
  first.memory.push_back(std::move(buffer).value());
  return first;
}

}  // namespace blockmoe::workload
