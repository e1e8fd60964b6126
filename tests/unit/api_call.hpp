// api_call.hpp: a valid call of the DeepSeek-V3 geometry, for tests that change one thing of it.
//
// Inputs have addresses but no memory: a fake backend does not read them. Output and workspace are real.
#pragma once

#include <cstdint>
#include <vector>

#include "api_fake_backend.hpp"
#include "blockmoe/blockmoe.hpp"

namespace blockmoe::test {

inline constexpr std::int64_t kTokens = 16;
inline constexpr std::int64_t kHidden = 7168;
inline constexpr std::uint16_t kUntouched = 0xabcd;

/// Far apart, so that nothing overlaps: 0x100000000000, 0x200000000000, ...
inline void* address(int slot) {
  return reinterpret_cast<void*>(static_cast<std::uintptr_t>(slot) << 44);
}
inline void* moved(void* from, std::intptr_t bytes) {
  return static_cast<char*>(from) + bytes;
}

struct Call {
  Geometry geometry;
  std::int64_t max_tokens = 4096;
  DeviceInfo device;
  Options options;
  Weights weights;
  Activations activations;
  Tensor output;
  Workspace workspace;

  Call() {
    using enum DType;
    const Device cpu;
    device.sm_count = 2;
    weights.routed_scaling_factor = 2.5F;
    weights.routing_bias = Tensor::contiguous(address(1), bfloat16, cpu, {256});
    weights.gemm1_weights = Tensor::contiguous(address(2), float8_e4m3, cpu, {32, 4096, 7168});
    weights.gemm1_weights_scale = Tensor::contiguous(address(3), float32, cpu, {32, 32, 56});
    weights.gemm2_weights = Tensor::contiguous(address(4), float8_e4m3, cpu, {32, 7168, 2048});
    weights.gemm2_weights_scale = Tensor::contiguous(address(5), float32, cpu, {32, 56, 16});
    activations.routing_logits = Tensor::contiguous(address(6), float32, cpu, {kTokens, 256});
    activations.hidden_states = Tensor::contiguous(address(8), float8_e4m3, cpu, {kTokens, kHidden});
    activations.hidden_states_scale = Tensor::contiguous(address(9), float32, cpu, {56, kTokens});
    output = Tensor::contiguous(aligned(output_memory_.data()), bfloat16, cpu, {kTokens, kHidden});
    workspace = {aligned(workspace_memory_.data()), kWorkspaceBytes};
  }
  Call(const Call&) = delete;

  Result<Plan> plan() const { return Plan::create(geometry, max_tokens, device, options); }

  Result<BoundPlan> bind() const {
    const Result<Plan> made = plan();
    return made.ok() ? made.value().bind(weights) : Result<BoundPlan>(made.status());
  }

  Status run() const {
    const Result<BoundPlan> bound = bind();
    return bound.ok() ? bound.value().run(activations, output, workspace) : bound.status();
  }

  /// Of the memory that stands behind `output` and around it.
  bool output_is_untouched() const {
    for (const std::uint16_t element : output_memory_) {
      if (element != kUntouched) return false;
    }
    return true;
  }

 private:
  static constexpr std::size_t kAlignment = 256;

  template <typename T>
  static T* aligned(T* memory) {
    const auto start = reinterpret_cast<std::uintptr_t>(memory);
    return reinterpret_cast<T*>((start + kAlignment - 1) / kAlignment * kAlignment);
  }

  // Room for twice the rows' width, since some tests spread the rows out.
  std::vector<std::uint16_t> output_memory_ =
      std::vector<std::uint16_t>(2 * kTokens * kHidden + kAlignment, kUntouched);
  std::vector<unsigned char> workspace_memory_ = std::vector<unsigned char>(kWorkspaceBytes + kAlignment);
};

}  // namespace blockmoe::test
