// One call of a small layer on the CPU, from C++17.
//
// Every e4m3 code is 1.0 and the scales make each gate and up value 1, so every output is 2.5 * silu(1) = 1.828.
#include <blockmoe/blockmoe.hpp>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

using blockmoe::DType;
using blockmoe::Tensor;

template <typename T>
T value_or_exit(blockmoe::Result<T> result) {
  if (result.ok()) return std::move(result).value();
  std::fprintf(stderr, "%s\n", result.status().message().c_str());
  std::exit(1);
}

int main() {
  constexpr std::int64_t T = 5, E = 16, H = 256, I = 128;  // tokens, experts (all on this rank), widths
  constexpr std::uint8_t one = 0x38;                       // 1.0 in e4m3
  const blockmoe::Device cpu;

  // Once a model: sizes, the largest T, the device.
  blockmoe::Geometry geometry;
  geometry.experts = geometry.local_experts = E;
  geometry.hidden = H;
  geometry.intermediate = I;
  geometry.top_k = 4;
  geometry.n_group = 4;
  geometry.topk_group = 2;
  const auto plan = value_or_exit(blockmoe::Plan::create(geometry, T, value_or_exit(blockmoe::query_device(cpu))));

  // Once a layer: its weights, which stay where they are.
  const std::vector<std::uint8_t> w13(E * 2 * I * H, one), w2(E * H * I, one);
  const std::vector<float> w13_scale(E * (2 * I / 128) * (H / 128), 1.0F / H),
      w2_scale(E * (H / 128) * (I / 128), 1.0F / I);
  blockmoe::Weights weights;
  weights.routed_scaling_factor = 2.5F;
  weights.gemm1_weights = Tensor::contiguous(w13.data(), DType::float8_e4m3, cpu, {E, 2 * I, H});
  weights.gemm1_weights_scale = Tensor::contiguous(w13_scale.data(), DType::float32, cpu, {E, 2 * I / 128, H / 128});
  weights.gemm2_weights = Tensor::contiguous(w2.data(), DType::float8_e4m3, cpu, {E, H, I});
  weights.gemm2_weights_scale = Tensor::contiguous(w2_scale.data(), DType::float32, cpu, {E, H / 128, I / 128});
  const auto bound = value_or_exit(plan.bind(weights));

  // Each step: any T up to the plan's, any stream.
  const std::vector<float> logits(T * E, 0.0F), hidden_scale(H / 128 * T, 1.0F);
  const std::vector<std::uint8_t> hidden(T * H, one);
  std::vector<std::uint16_t> output(T * H);
  blockmoe::Activations activations;
  activations.routing_logits = Tensor::contiguous(logits.data(), DType::float32, cpu, {T, E});
  activations.hidden_states = Tensor::contiguous(hidden.data(), DType::float8_e4m3, cpu, {T, H});
  activations.hidden_states_scale = Tensor::contiguous(hidden_scale.data(), DType::float32, cpu, {H / 128, T});

  const blockmoe::WorkspaceNeed need = plan.workspace();
  std::vector<std::uint8_t> memory(need.bytes + need.alignment);
  void* workspace = memory.data();
  std::size_t room = memory.size();
  std::align(need.alignment, need.bytes, workspace, room);

  const blockmoe::Status status =
      bound.run(activations, Tensor::contiguous(output.data(), DType::bfloat16, cpu, {T, H}), {workspace, need.bytes});
  if (!status.ok()) {
    std::fprintf(stderr, "%s\n", status.message().c_str());
    return 1;
  }
  for (const std::uint16_t value : output) {
    if (value != 0x3fea) return 1;  // 1.828125, the bf16 next to 2.5 * silu(1)
  }
  std::printf("%s: %zu outputs, all 1.828\n", plan.path().c_str(), output.size());
}
