// One call of a tiny layer on the CPU, with an answer that a pocket calculator gives.
//
// T = 3, E = L = 4, H = I = 128, top_k = 1. All e4m3 codes are 1.0. Scales are chosen so that up = gate = 1 in every
// column; then every output is silu(1) = 0.7310586, which is 0.73046875 in bf16 (0x3f3b).
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "blockmoe/blockmoe.hpp"

namespace {

constexpr std::int64_t kTokens = 3, kExperts = 4, kHidden = 128, kIntermediate = 128;
constexpr std::uint8_t kOne = 0x38;
constexpr std::uint16_t kSiluOfOne = 0x3f3b;

void require(const blockmoe::Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s\n", status.message().c_str());
  std::exit(1);
}

}  // namespace

int main() {
  using blockmoe::DType;
  using blockmoe::Tensor;
  const blockmoe::Device cpu;

  blockmoe::Geometry geometry;
  geometry.experts = kExperts;
  geometry.local_experts = kExperts;
  geometry.hidden = kHidden;
  geometry.intermediate = kIntermediate;
  geometry.top_k = 1;
  geometry.n_group = 1;
  geometry.topk_group = 1;

  const auto device = blockmoe::query_device(cpu);
  require(device.status());
  const auto plan = blockmoe::Plan::create(geometry, kTokens, device.value());
  require(plan.status());

  const std::vector<std::uint8_t> w13(kExperts * 2 * kIntermediate * kHidden, kOne);
  const std::vector<float> w13_scale(kExperts * 2, 1.0F);
  const std::vector<std::uint8_t> w2(kExperts * kHidden * kIntermediate, kOne);
  const std::vector<float> w2_scale(kExperts, 1.0F / kIntermediate);
  blockmoe::Weights weights;
  weights.gemm1_weights =
      Tensor::contiguous(w13.data(), DType::float8_e4m3, cpu, {kExperts, 2 * kIntermediate, kHidden});
  weights.gemm1_weights_scale = Tensor::contiguous(w13_scale.data(), DType::float32, cpu, {kExperts, 2, 1});
  weights.gemm2_weights = Tensor::contiguous(w2.data(), DType::float8_e4m3, cpu, {kExperts, kHidden, kIntermediate});
  weights.gemm2_weights_scale = Tensor::contiguous(w2_scale.data(), DType::float32, cpu, {kExperts, 1, 1});
  const auto bound = plan.value().bind(weights);
  require(bound.status());

  const std::vector<float> logits(kTokens * kExperts, 0.0F);
  const std::vector<std::uint8_t> hidden(kTokens * kHidden, kOne);
  const std::vector<float> hidden_scale(kTokens, 1.0F / kHidden);
  blockmoe::Activations activations;
  activations.routing_logits = Tensor::contiguous(logits.data(), DType::float32, cpu, {kTokens, kExperts});
  activations.hidden_states = Tensor::contiguous(hidden.data(), DType::float8_e4m3, cpu, {kTokens, kHidden});
  activations.hidden_states_scale = Tensor::contiguous(hidden_scale.data(), DType::float32, cpu, {1, kTokens});

  std::vector<std::uint16_t> output(kTokens * kHidden, 0xffff);
  const Tensor output_tensor = Tensor::contiguous(output.data(), DType::bfloat16, cpu, {kTokens, kHidden});
  const blockmoe::WorkspaceNeed need = plan.value().workspace();
  std::vector<std::uint8_t> memory(need.bytes + need.alignment);
  void* workspace = memory.data();
  std::size_t space = memory.size();
  if (std::align(need.alignment, need.bytes, workspace, space) == nullptr) return 1;
  require(bound.value().run(activations, output_tensor, {workspace, need.bytes}));

  for (const std::uint16_t value : output) {
    if (value != kSiluOfOne) {
      std::fprintf(stderr, "an output is 0x%04x, expected 0x%04x\n", value, kSiluOfOne);
      return 1;
    }
  }
  std::printf("blockmoe %s, %s: %zu outputs as expected\n", BLOCKMOE_VERSION, plan.value().path().c_str(),
              output.size());
}
