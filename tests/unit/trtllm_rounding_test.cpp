// What it costs that TRTLLM's kernels round to bf16 what they hand on, all else exact: which of the contract's gates such products can
// hold. docs/kernels/blackwell-trtllm.md has the figures.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <random>
#include <vector>

#include "contract/e4m3.h"
#include "contract/requantise.h"

namespace blockmoe::test {
namespace {

using Values = std::vector<double>;

constexpr std::size_t kRows = 64;
constexpr std::size_t kInter = 1024;  // I
constexpr std::size_t kHidden = 128;  // H
constexpr std::size_t kBlock = 128;

double bf16(double x) {
  return contract::bf16_decode(contract::bf16_encode(static_cast<float>(x)));
}

Values normal(std::size_t count, double width, std::mt19937& random) {
  std::normal_distribution<double> distribution(0, width);
  Values values(count);
  for (double& x : values) x = distribution(random);
  return values;
}

template <typename F>
Values each(const Values& values, F f) {
  Values out;
  out.reserve(values.size());
  for (const double x : values) out.push_back(f(x));
  return out;
}

Values swiglu(const Values& gate, const Values& up) {
  Values out(gate.size());
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = gate[i] / (1 + std::exp(-gate[i])) * up[i];
  return out;
}

Values requantised(const Values& inter) {
  Values out;
  for (std::size_t first = 0; first < inter.size(); first += kBlock) {
    float amax = 0;
    for (std::size_t i = first; i < first + kBlock; ++i) amax = contract::amax_step(amax, static_cast<float>(inter[i]));
    const contract::BlockScale scale = contract::block_scale(amax);
    for (std::size_t i = first; i < first + kBlock; ++i) {
      out.push_back(contract::e4m3_decode(contract::requantise(static_cast<float>(inter[i]), scale.inverse)) *
                    static_cast<double>(scale.scale));
    }
  }
  return out;
}

// [kRows, kInter] x [kInter, kHidden]
Values gemm2(const Values& inter, const Values& weights) {
  Values out(kRows * kHidden, 0);
  for (std::size_t r = 0; r < kRows; ++r) {
    for (std::size_t k = 0; k < kInter; ++k) {
      const double x = inter[r * kInter + k];
      for (std::size_t h = 0; h < kHidden; ++h) out[r * kHidden + h] += x * weights[k * kHidden + h];
    }
  }
  return out;
}

double relative_l2(const Values& got, const Values& exact) {
  double error = 0;
  double norm = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    error += (got[i] - exact[i]) * (got[i] - exact[i]);
    norm += exact[i] * exact[i];
  }
  return std::sqrt(error / norm);
}

// One pick a token, so that no sum of picks evens anything out.
TEST(TrtllmRounding, bf16_before_the_requantisation_misses_its_gates_and_bf16_after_gemm2_holds_them) {
  for (const double width : {0.3, 1.0, 3.0, 1e3, 1e5}) {
    SCOPED_TRACE("gate and up of width " + std::to_string(width));
    std::mt19937 random(7);
    const Values gate = normal(kRows * kInter, width, random);
    const Values up = normal(kRows * kInter, width, random);
    const Values weights = normal(kInter * kHidden, 1, random);
    const Values inter = swiglu(gate, up);
    const Values exact = gemm2(inter, weights);
    const Values exact_codes = gemm2(requantised(inter), weights);
    const Values from_bf16 = gemm2(requantised(swiglu(each(gate, bf16), each(up, bf16))), weights);
    const auto written = [](const Values& rows) {
      return each(each(rows, bf16), [](double x) { return bf16(0.3 * x); });
    };
    const auto weighted = [](const Values& rows) { return each(rows, [](double x) { return 0.3 * x; }); };

    const double gemm1_alone = relative_l2(each(gate, bf16), gate);
    const double gemm2_alone = relative_l2(each(exact_codes, bf16), exact_codes);
    const double gemm2_bf16 = relative_l2(written(exact_codes), weighted(exact_codes));
    const double both = relative_l2(written(from_bf16), weighted(exact_codes));
    const double both_unquantised = relative_l2(written(from_bf16), weighted(exact));
    std::printf(
        "width %g: gemm1 alone %.4f, gemm2 alone %.4f, layer: gemm2 %.4f, both %.4f, both against no requantisation "
        "%.4f\n",
        width, gemm1_alone, gemm2_alone, gemm2_bf16, both, both_unquantised);
    EXPECT_GT(gemm1_alone, 0.0005);
    EXPECT_LT(gemm2_alone, 0.002);
    EXPECT_LT(gemm2_bf16, 0.005);
    EXPECT_GT(both, 0.005);
    EXPECT_LT(both_unquantised, 0.026);
  }
}

}  // namespace
}  // namespace blockmoe::test
