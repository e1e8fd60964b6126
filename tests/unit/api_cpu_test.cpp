// Whole calls through the public API on the CPU backend: each form that a tensor may have gives the bits of the plain
// form, from one thread and from several.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <thread>
#include <vector>

#include "blockmoe/blockmoe.hpp"
#include "contract/e4m3.h"

namespace blockmoe::test {
namespace {

constexpr std::int64_t kTokens = 9, kExperts = 16, kLocal = 8, kHidden = 256, kIntermediate = 128;

// A fixed sequence of numbers in [-1, 1).
class Numbers {
 public:
  float next() {
    state_ = state_ * 6364136223846793005U + 1442695040888963407U;
    return static_cast<float>(static_cast<std::int32_t>(state_ >> 32)) / 2147483648.0F;
  }
  std::vector<float> floats(std::int64_t count, float scale) {
    std::vector<float> values(static_cast<std::size_t>(count));
    for (float& value : values) value = next() * scale;
    return values;
  }
  std::vector<std::uint8_t> codes(std::int64_t count) {
    std::vector<std::uint8_t> values(static_cast<std::size_t>(count));
    for (std::uint8_t& value : values) value = contract::e4m3_encode(next() * 2.0F);
    return values;
  }

 private:
  std::uint64_t state_ = 1;
};

std::vector<std::uint16_t> to_bf16(const std::vector<float>& values) {
  std::vector<std::uint16_t> rounded(values.size());
  std::ranges::transform(values, rounded.begin(), [](float x) { return contract::bf16_encode(x); });
  return rounded;
}

std::vector<float> to_f32(const std::vector<std::uint16_t>& values) {
  std::vector<float> widened(values.size());
  std::ranges::transform(values, widened.begin(), [](std::uint16_t x) { return contract::bf16_decode(x); });
  return widened;
}

// Rows of `width`, `pitch` apart, `filler` between them.
template <typename T>
std::vector<T> spread(const std::vector<T>& rows, std::int64_t width, std::int64_t pitch, T filler) {
  std::vector<T> memory(rows.size() / static_cast<std::size_t>(width) * static_cast<std::size_t>(pitch), filler);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const std::size_t row = i / static_cast<std::size_t>(width);
    memory[row * static_cast<std::size_t>(pitch) + i % static_cast<std::size_t>(width)] = rows[i];
  }
  return memory;
}

class ApiCpu : public testing::Test {
 protected:
  ApiCpu() {
    geometry_.experts = kExperts;
    geometry_.local_experts = kLocal;
    geometry_.hidden = kHidden;
    geometry_.intermediate = kIntermediate;
    geometry_.top_k = 4;
    geometry_.n_group = 4;
    geometry_.topk_group = 3;
    weights_.local_expert_offset = 4;
    weights_.routed_scaling_factor = 2.5F;
    weights_.routing_bias = Tensor::contiguous(bias_.data(), DType::bfloat16, {}, {kExperts});
    weights_.gemm1_weights =
        Tensor::contiguous(w13_.data(), DType::float8_e4m3, {}, {kLocal, 2 * kIntermediate, kHidden});
    weights_.gemm1_weights_scale =
        Tensor::contiguous(w13_scale_.data(), DType::float32, {}, {kLocal, 2 * kIntermediate / 128, kHidden / 128});
    weights_.gemm2_weights = Tensor::contiguous(w2_.data(), DType::float8_e4m3, {}, {kLocal, kHidden, kIntermediate});
    weights_.gemm2_weights_scale =
        Tensor::contiguous(w2_scale_.data(), DType::float32, {}, {kLocal, kHidden / 128, kIntermediate / 128});
    activations_.routing_logits = Tensor::contiguous(logits_.data(), DType::float32, {}, {kTokens, kExperts});
    activations_.hidden_states = Tensor::contiguous(hidden_.data(), DType::float8_e4m3, {}, {kTokens, kHidden});
    activations_.hidden_states_scale =
        Tensor::contiguous(hidden_scale_.data(), DType::float32, {}, {kHidden / 128, kTokens});
  }

  BoundPlan bound() const {
    return Plan::create(geometry_, kTokens, query_device({}).value(), options_).value().bind(weights_).value();
  }

  // The output's memory: rows `pitch` apart, with what was between them before.
  std::vector<std::uint16_t> run(const BoundPlan& bound, std::int64_t pitch = kHidden) const {
    const WorkspaceNeed need = Plan::create(geometry_, kTokens, query_device({}).value(), options_).value().workspace();
    std::vector<std::uint8_t> memory(need.bytes + need.alignment, 0xff);  // garbage, as far as the plan allows it
    if (need.init == WorkspaceInit::zeroed_once) std::fill(memory.begin(), memory.end(), std::uint8_t{0});
    void* workspace = memory.data();
    std::size_t room = memory.size();
    std::align(need.alignment, need.bytes, workspace, room);
    std::vector<std::uint16_t> output(static_cast<std::size_t>(kTokens * pitch), kBetween);
    const Status status =
        bound.run(activations_, Tensor::pitched(output.data(), DType::bfloat16, {}, kTokens, kHidden, pitch),
                  {workspace, need.bytes});
    EXPECT_TRUE(status.ok()) << status.message();
    return output;
  }
  std::vector<std::uint16_t> run() const { return run(bound()); }

  static constexpr std::uint16_t kBetween = 0xabcd;

  Numbers numbers_;
  std::vector<std::uint16_t> bias_ = to_bf16(numbers_.floats(kExperts, 0.1F));
  std::vector<std::uint8_t> w13_ = numbers_.codes(kLocal * 2 * kIntermediate * kHidden);
  std::vector<float> w13_scale_ = numbers_.floats(kLocal * 2 * kIntermediate / 128 * kHidden / 128, 0.1F);
  std::vector<std::uint8_t> w2_ = numbers_.codes(kLocal * kHidden * kIntermediate);
  std::vector<float> w2_scale_ = numbers_.floats(kLocal * kHidden / 128 * kIntermediate / 128, 0.1F);
  std::vector<float> logits_ = to_f32(to_bf16(numbers_.floats(kTokens * kExperts, 3.0F)));
  std::vector<std::uint8_t> hidden_ = numbers_.codes(kTokens * kHidden);
  std::vector<float> hidden_scale_ = numbers_.floats(kHidden / 128 * kTokens, 1.0F);
  Geometry geometry_;
  Options options_;
  Weights weights_;
  Activations activations_;
};

TEST_F(ApiCpu, computes_something) {
  const std::vector<std::uint16_t> output = run();
  EXPECT_GT(std::count_if(output.begin(), output.end(), [](auto element) { return (element & 0x7fff) != 0; }),
            kTokens * kHidden / 2);
}

TEST_F(ApiCpu, pitched_tensors_give_the_bits_of_contiguous_ones) {
  constexpr std::int64_t kPitch = kHidden + 16;
  const std::vector<std::uint16_t> plain = run();
  const auto logits = spread(logits_, kExperts, kExperts + 3, 1e30F);
  const auto hidden = spread(hidden_, kHidden, kPitch, contract::kE4m3NaN);
  const auto hidden_scale = spread(hidden_scale_, kTokens, kTokens + 7, 1e30F);
  activations_.routing_logits = Tensor::pitched(logits.data(), DType::float32, {}, kTokens, kExperts, kExperts + 3);
  activations_.hidden_states = Tensor::pitched(hidden.data(), DType::float8_e4m3, {}, kTokens, kHidden, kPitch);
  activations_.hidden_states_scale =
      Tensor::pitched(hidden_scale.data(), DType::float32, {}, kHidden / 128, kTokens, kTokens + 7);
  EXPECT_EQ(run(bound(), kPitch), spread(plain, kHidden, kPitch, kBetween));
}

TEST_F(ApiCpu, gate_first_gives_the_bits_of_up_first) {
  const std::vector<std::uint16_t> plain = run();
  const auto swap_halves = [](auto& values) {
    const std::size_t expert = values.size() / kLocal;
    for (std::size_t begin = 0; begin < values.size(); begin += expert) {
      const auto first = values.begin() + static_cast<std::ptrdiff_t>(begin);
      std::rotate(first, first + static_cast<std::ptrdiff_t>(expert / 2), first + static_cast<std::ptrdiff_t>(expert));
    }
  };
  swap_halves(w13_);
  swap_halves(w13_scale_);
  EXPECT_NE(run(), plain);
  options_.gate_first = true;
  EXPECT_EQ(run(), plain);
}

TEST_F(ApiCpu, an_f32_bias_and_bf16_logits_of_the_same_values_give_the_same_bits) {
  const std::vector<std::uint16_t> plain = run();
  const std::vector<float> bias = to_f32(bias_);
  weights_.routing_bias = Tensor::contiguous(bias.data(), DType::float32, {}, {kExperts});
  EXPECT_EQ(run(), plain);
  const std::vector<std::uint16_t> logits = to_bf16(logits_);
  activations_.routing_logits = Tensor::contiguous(logits.data(), DType::bfloat16, {}, {kTokens, kExperts});
  EXPECT_EQ(run(), plain);
}

TEST_F(ApiCpu, an_absent_bias_counts_as_zeros) {
  std::fill(bias_.begin(), bias_.end(), std::uint16_t{0});
  const std::vector<std::uint16_t> zeros = run();
  weights_.routing_bias = Tensor();
  EXPECT_EQ(run(), zeros);
}

TEST_F(ApiCpu, contents_may_change_between_calls) {
  const BoundPlan first = bound();
  const std::vector<std::uint16_t> before = run(first);
  std::reverse(w2_.begin(), w2_.end());
  const std::vector<std::uint16_t> after = run(first);
  EXPECT_NE(after, before);
  EXPECT_EQ(after, run(bound()));
}

TEST_F(ApiCpu, a_bound_plan_serves_several_threads_at_once) {
  const BoundPlan shared = bound();
  const std::vector<std::uint16_t> alone = run(shared);
  std::vector<int> same(4);
  std::vector<std::thread> threads;
  threads.reserve(same.size());
  for (int& mine : same) {
    threads.emplace_back([&, this] {
      for (int i = 0; i < 20; ++i) mine += run(shared) == alone ? 1 : 0;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(same, std::vector<int>(4, 20));
}

TEST_F(ApiCpu, does_not_take_gpu_backends_for_the_cpu) {
  for (const Backend backend : {Backend::portable, Backend::hopper, Backend::blackwell}) {
    options_.backend = backend;
    const Status status = Plan::create(geometry_, kTokens, query_device({}).value(), options_).status();
    EXPECT_EQ(status.code(), StatusCode::unsupported);
    EXPECT_EQ(status.message().rfind("options.backend: ", 0), 0U) << status.message();
  }
}

}  // namespace
}  // namespace blockmoe::test
