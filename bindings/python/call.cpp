// call.cpp: see call.hpp.
#include "call.hpp"

#include <tvm/ffi/extra/c_env_api.h>

#include <charconv>
#include <limits>
#include <string_view>
#include <system_error>

#include "memory.hpp"
#include "tensor.hpp"

namespace blockmoe::python {

using tvm::ffi::TensorView;

std::int32_t to_int32(const char* argument, std::int64_t value) {
  constexpr std::int64_t kLeast = std::numeric_limits<std::int32_t>::min();
  constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max();
  if (value < kLeast || value > kMost) refuse(argument, std::to_string(value), "a number of 32 bits");
  return static_cast<std::int32_t>(value);
}

DeviceInfo device_named(const std::string& name) {
  constexpr std::string_view kCuda = "cuda";
  Device device;
  if (name.starts_with(kCuda)) {
    device.type = DeviceType::cuda;
    const std::string_view index = std::string_view(name).substr(kCuda.size());
    if (!index.empty()) {
      const auto [end, error] = std::from_chars(index.data() + 1, index.data() + index.size(), device.index);
      if (index.front() != ':' || error != std::errc() || end != index.data() + index.size()) {
        refuse("device", "\"" + name + "\"", "cpu, cuda or cuda:<number>");
      }
    }
  }
  const bool is_here = device.type == DeviceType::cuda || name == "cpu";
  const Result<DeviceInfo> info = is_here ? query_device(device) : describe_device(name);
  require_ok(info.status());
  return info.value();
}

Geometry geometry_of(std::int64_t experts, std::int64_t hidden, std::int64_t intermediate, std::int64_t local_experts,
                     std::int64_t top_k, std::int64_t n_group, std::int64_t topk_group) {
  Geometry geometry;
  geometry.experts = to_int32("experts", experts);
  geometry.hidden = hidden;
  geometry.intermediate = intermediate;
  geometry.local_experts = to_int32("local_experts", local_experts);
  geometry.top_k = to_int32("top_k", top_k);
  geometry.n_group = to_int32("n_group", n_group);
  geometry.topk_group = to_int32("topk_group", topk_group);
  return geometry;
}

Weights weights_of(const OptionalTensor& routing_bias, const TensorView& gemm1_weights,
                   const TensorView& gemm1_weights_scale, const TensorView& gemm2_weights,
                   const TensorView& gemm2_weights_scale, std::int64_t local_expert_offset,
                   double routed_scaling_factor) {
  Weights weights;
  weights.local_expert_offset = to_int32("local_expert_offset", local_expert_offset);
  weights.routed_scaling_factor = static_cast<float>(routed_scaling_factor);
  weights.routing_bias = view_of("routing_bias", routing_bias);
  weights.gemm1_weights = view_of("gemm1_weights", gemm1_weights);
  weights.gemm1_weights_scale = view_of("gemm1_weights_scale", gemm1_weights_scale);
  weights.gemm2_weights = view_of("gemm2_weights", gemm2_weights);
  weights.gemm2_weights_scale = view_of("gemm2_weights_scale", gemm2_weights_scale);
  return weights;
}

Activations activations_of(const TensorView& routing_logits, const TensorView& hidden_states,
                           const TensorView& hidden_states_scale) {
  Activations activations;
  activations.routing_logits = view_of("routing_logits", routing_logits);
  activations.hidden_states = view_of("hidden_states", hidden_states);
  activations.hidden_states_scale = view_of("hidden_states_scale", hidden_states_scale);
  return activations;
}

tvm::ffi::Tensor output_for(const OptionalTensor& given, const TensorView& hidden_states, Device device) {
  constexpr DLDataType kBf16{kDLBfloat, 16, 1};
  if (given.has_value()) return given.value();
  if (hidden_states.ndim() != 2) refuse("hidden_states", "shape " + text_of(hidden_states.shape()), "[T, H]");
  return allocate("output", hidden_states.shape(), kBf16, device);
}

Stream stream_of(Device device) {
  const DLDevice where = dlpack_of(device);
  return TVMFFIEnvGetStream(where.device_type, where.device_id);
}

}  // namespace blockmoe::python
