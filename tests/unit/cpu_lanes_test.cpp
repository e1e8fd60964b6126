// cpu_lanes_test.cpp: the vector loops give the bits of the contract's functions taken one value at a time.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "contract/e4m3.h"
#include "contract/exp.h"
#include "contract/requantise.h"
#include "contract/routing.h"
#include "cpu/lanes.hpp"

namespace blockmoe::test {
namespace {

constexpr int kBlock = 128;
constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

std::uint32_t bits(float x) {
  return std::bit_cast<std::uint32_t>(x);
}

/// Any bit pattern at all, so that every branch of the contract is taken.
std::vector<float> any_floats(std::size_t count, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<float> values(count);
  for (float& x : values) x = std::bit_cast<float>(static_cast<std::uint32_t>(random()));
  return values;
}

std::vector<float> normal_floats(std::size_t count, std::uint64_t seed, float deviation) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0.0F, deviation);
  std::vector<float> values(count);
  for (float& x : values) x = normal(random);
  return values;
}

void expect_scores(const std::vector<float>& logits, const std::vector<float>& bias) {
  const auto experts = static_cast<std::int32_t>(logits.size());
  std::vector<float> mixing(logits.size());
  std::vector<float> choice(logits.size());
  cpu::score_experts(logits.data(), bias.data(), experts, mixing.data(), choice.data());
  for (std::size_t e = 0; e < logits.size(); ++e) {
    EXPECT_EQ(bits(mixing[e]), bits(contract::mixing_score(logits[e]))) << logits[e];
    EXPECT_EQ(bits(choice[e]), bits(contract::choice_score(contract::sigmoid(logits[e]), bias[e])))
        << logits[e] << ", " << bias[e];
  }
}

TEST(CpuLanes, scores_are_the_contracts) {
  for (const std::size_t experts : {1U, 7U, 16U, 255U, 256U, 1024U}) {
    expect_scores(any_floats(experts, experts), any_floats(experts, experts + 1));
    expect_scores(normal_floats(experts, experts, 3.0F), normal_floats(experts, experts + 1, 1.0F));
    expect_scores(normal_floats(experts, experts, 90.0F), std::vector<float>(experts, 0.0F));
  }
}

void expect_codes(const std::vector<float>& up, const std::vector<float>& gate) {
  std::vector<float> values(kBlock);
  float amax = 0.0F;
  for (std::size_t i = 0; i < kBlock; ++i) {
    values[i] = contract::silu(gate[i]) * up[i];
    amax = contract::amax_step(amax, values[i]);
  }
  const contract::BlockScale expected = contract::block_scale(amax);
  std::vector<std::uint8_t> codes(kBlock);
  EXPECT_EQ(bits(cpu::swiglu_requantise(up.data(), gate.data(), codes.data())), bits(expected.scale));
  for (std::size_t i = 0; i < kBlock; ++i) {
    EXPECT_EQ(codes[i], contract::requantise(values[i], expected.inverse)) << up[i] << ", " << gate[i];
  }
  std::vector<std::uint8_t> first(kBlock), second(kBlock);
  EXPECT_EQ(bits(cpu::swiglu_requantise(up.data(), gate.data(), first.data(), second.data())), bits(expected.scale));
  EXPECT_EQ(first, codes);
  for (std::size_t i = 0; i < kBlock; ++i) {
    EXPECT_EQ(second[i], contract::requantise_residual(values[i], expected.inverse, codes[i]))
        << up[i] << ", " << gate[i];
  }
}

TEST(CpuLanes, swiglu_and_requantise_are_the_contracts) {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    const float deviation = std::exp2(static_cast<float>(seed) - 140.0F);
    expect_codes(normal_floats(kBlock, seed, deviation), normal_floats(kBlock, seed + 1000, 5.0F));
    expect_codes(any_floats(kBlock, seed), any_floats(kBlock, seed + 1000));
  }
}

TEST(CpuLanes, requantise_keeps_a_nan_apart_and_gives_an_inf_to_its_block) {
  std::vector<float> up = normal_floats(kBlock, 1, 1.0F);
  const std::vector<float> gate = normal_floats(kBlock, 2, 1.0F);
  std::vector<std::uint8_t> clean(kBlock);
  const float scale = cpu::swiglu_requantise(up.data(), gate.data(), clean.data());
  up[50] = kNaN;
  std::vector<std::uint8_t> codes(kBlock);
  EXPECT_EQ(cpu::swiglu_requantise(up.data(), gate.data(), codes.data()), scale);
  EXPECT_EQ(codes[50], contract::kE4m3NaN);
  clean[50] = contract::kE4m3NaN;
  EXPECT_EQ(codes, clean);
  up[50] = kInf;
  EXPECT_EQ(cpu::swiglu_requantise(up.data(), gate.data(), codes.data()), kInf);
  EXPECT_EQ(codes[50], contract::kE4m3NaN);
}

TEST(CpuLanes, weighted_sum_takes_rows_in_order_and_rounds_once) {
  constexpr std::int64_t kWidth = 384;
  for (const std::int32_t count : {0, 1, 2, 8, 32}) {
    std::vector<std::vector<float>> memory;
    memory.reserve(static_cast<std::size_t>(count));
    std::vector<const float*> rows;
    rows.reserve(memory.capacity());
    const std::vector<float> weights = normal_floats(static_cast<std::size_t>(count), 5, 1.0F);
    for (std::int32_t i = 0; i < count; ++i) {
      memory.push_back(normal_floats(kWidth, 10 + static_cast<std::uint64_t>(i), 100.0F));
    }
    for (const auto& row : memory) rows.push_back(row.data());
    std::vector<std::uint16_t> output(kWidth);
    cpu::weighted_sum(rows.data(), weights.data(), count, kWidth, output.data());
    for (std::size_t i = 0; i < kWidth; ++i) {
      float sum = 0.0F;
      for (std::size_t row = 0; row < memory.size(); ++row) sum = std::fma(weights[row], memory[row][i], sum);
      EXPECT_EQ(output[i], contract::bf16_encode(sum)) << count << " rows, column " << i;
    }
  }
}

}  // namespace
}  // namespace blockmoe::test
