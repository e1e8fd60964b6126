// workload_generator_test.cpp: the generator's bytes, whatever the machine and the threads, and the numbers' distribution.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

#include "contract/e4m3.h"
#include "contract/requantise.h"
#include "workload/generator.hpp"

namespace blockmoe::workload {
namespace {

constexpr std::uint64_t kSeed = 0x123456789abcdef0U;

// FNV-1a over bytes.
template <typename T>
std::uint64_t hash_of(const std::vector<T>& values) {
  std::uint64_t hash = 0xcbf29ce484222325U;
  const auto* bytes = reinterpret_cast<const unsigned char*>(values.data());
  for (std::size_t i = 0; i < values.size() * sizeof(T); ++i) hash = (hash ^ bytes[i]) * 0x100000001b3U;
  return hash;
}

std::vector<float> normals(std::int64_t count, std::uint64_t seed, DrawStream stream, int threads) {
  std::vector<float> out(static_cast<std::size_t>(count));
  draw_normals(out.data(), count, seed, stream, threads);
  return out;
}

std::vector<std::uint8_t> codes(std::int64_t count, std::uint64_t seed, DrawStream stream, int threads) {
  std::vector<std::uint8_t> out(static_cast<std::size_t>(count));
  draw_clamped_codes(out.data(), count, seed, stream, threads);
  return out;
}

struct Quantised {
  std::vector<std::uint8_t> codes;
  std::vector<float> scales;
};

Quantised weights(std::int64_t matrices, std::int64_t rows, std::int64_t columns, std::uint64_t seed, int threads) {
  Quantised q{std::vector<std::uint8_t>(static_cast<std::size_t>(matrices * rows * columns)),
              std::vector<float>(static_cast<std::size_t>(matrices * rows * columns / (128 * 128)))};
  draw_quantised_weights(q.codes.data(), q.scales.data(), matrices, rows, columns, seed, DrawStream::gemm1_weights,
                         threads);
  return q;
}

Quantised activations(std::int64_t tokens, std::int64_t hidden, std::uint64_t seed, int threads) {
  Quantised q{std::vector<std::uint8_t>(static_cast<std::size_t>(tokens * hidden)),
              std::vector<float>(static_cast<std::size_t>(tokens * hidden / 128))};
  draw_quantised_activations(q.codes.data(), q.scales.data(), tokens, hidden, seed, threads);
  return q;
}

TEST(workload_generator, philox_gives_the_published_answers) {
  const auto expect = [](PhiloxBlock counter, std::uint32_t key0, std::uint32_t key1, PhiloxBlock expected) {
    const PhiloxBlock drawn = philox(counter, key0, key1);
    for (int i = 0; i < 4; ++i) EXPECT_EQ(drawn.word[i], expected.word[i]);
  };
  expect({{0, 0, 0, 0}}, 0, 0, {{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}});
  expect({{~0U, ~0U, ~0U, ~0U}}, ~0U, ~0U, {{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}});
  expect({{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}}, 0xa4093822, 0x299f31d0,
         {{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}});
}

TEST(workload_generator, bytes_are_the_same_on_every_machine) {
  std::vector<float> table(std::begin(normal_table().value), std::end(normal_table().value));
  EXPECT_EQ(hash_of(table), 0x0d05ace6f5438946U);
  EXPECT_EQ(hash_of(normals(1000, kSeed, DrawStream::routing_logits, 1)), 0x58af2b507d573fc7U);
  EXPECT_EQ(hash_of(codes(100'000, kSeed, DrawStream::gemm2_weights, 1)), 0xaa8250f3b2a834aeU);
  const Quantised w = weights(2, 256, 384, kSeed, 1);
  EXPECT_EQ(hash_of(w.codes), 0x042f7fcfc119378aU);
  EXPECT_EQ(hash_of(w.scales), 0x08277726d761c491U);
  const Quantised a = activations(5, 512, kSeed, 1);
  EXPECT_EQ(hash_of(a.codes), 0xc556977e57bc0bb3U);
  EXPECT_EQ(hash_of(a.scales), 0xe1ab1ca240b1b84aU);
}

TEST(workload_generator, single_elements_are_the_same_on_every_machine) {
  struct Case {
    std::uint64_t seed;
    DrawStream stream;
    std::uint64_t element;
    std::uint32_t normal_bits;
    std::uint8_t code;
    std::uint32_t weight_bits;
  };
  const Case cases[] = {{0x0U, DrawStream::routing_logits, 0U, 0xc0082d16U, 0x3bU, 0x3ce053b0U},
                        {0x1U, DrawStream::gemm1_weights, 12345U, 0x3ed23538U, 0x29U, 0x3bb94997U},
                        {0x123456789abcdef0U, DrawStream::gemm2_weights, 939524095U, 0x3f46fe7bU, 0xb5U, 0xbc87fcb2U},
                        {0xffffffffffffffffU, DrawStream::hidden_states, 68719476736U, 0xbebfe4b4U, 0xb7U, 0xbc9531c0U},
                        {0x7U, DrawStream::gemm1_weights, 168U, 0xbf830779U, 0x40U, 0x3d97b3dbU}};
  for (const Case& c : cases) {
    EXPECT_EQ(contract::bits_of(normal_at(normal_table(), c.seed, c.stream, c.element)), c.normal_bits);
    EXPECT_EQ(clamped_code_at(clamped_codes(), c.seed, c.stream, c.element), c.code);
    EXPECT_EQ(contract::bits_of(weight_at(normal_table(), c.seed, c.stream, c.element)), c.weight_bits);
  }
}

TEST(workload_generator, bytes_do_not_depend_on_threads) {
  for (const int threads : {2, 3, 7}) {
    EXPECT_EQ(normals(700'001, kSeed, DrawStream::routing_logits, threads),
              normals(700'001, kSeed, DrawStream::routing_logits, 1));
    EXPECT_EQ(codes(700'001, kSeed, DrawStream::hidden_states, threads),
              codes(700'001, kSeed, DrawStream::hidden_states, 1));
    const Quantised w = weights(3, 256, 640, kSeed, threads);
    const Quantised w1 = weights(3, 256, 640, kSeed, 1);
    EXPECT_EQ(w.codes, w1.codes);
    EXPECT_EQ(w.scales, w1.scales);
    const Quantised a = activations(70, 384, kSeed, threads);
    const Quantised a1 = activations(70, 384, kSeed, 1);
    EXPECT_EQ(a.codes, a1.codes);
    EXPECT_EQ(a.scales, a1.scales);
  }
}

TEST(workload_generator, whole_tensors_are_their_elements) {
  const auto all_normals = normals(1003, kSeed, DrawStream::hidden_states_scale, 1);
  const auto all_codes = codes(1003, kSeed, DrawStream::hidden_states, 1);
  for (std::size_t i = 0; i < all_normals.size(); ++i) {
    EXPECT_EQ(all_normals[i], normal_at(normal_table(), kSeed, DrawStream::hidden_states_scale, i)) << i;
    EXPECT_EQ(all_codes[i], clamped_code_at(clamped_codes(), kSeed, DrawStream::hidden_states, i)) << i;
  }
}

TEST(workload_generator, a_prefix_is_a_prefix) {
  const auto whole = normals(1003, kSeed, DrawStream::routing_logits, 1);
  for (const std::int64_t count : {0, 1, 3, 4, 63, 64, 65, 1002}) {
    const auto part = normals(count, kSeed, DrawStream::routing_logits, 1);
    EXPECT_TRUE(std::equal(part.begin(), part.end(), whole.begin())) << count;
  }
}

TEST(workload_generator, seeds_and_tensors_are_independent) {
  const auto one = normals(1000, 1, DrawStream::routing_logits, 1);
  EXPECT_NE(one, normals(1000, 2, DrawStream::routing_logits, 1));
  EXPECT_NE(one, normals(1000, 1ULL << 32, DrawStream::routing_logits, 1));
  EXPECT_NE(one, normals(1000, 1, DrawStream::hidden_states_scale, 1));
}

// Probability that a normal number is below x, from the C library.
double probability_below(double x) {
  return 0.5 * std::erfc(-x / std::sqrt(2.0));
}

TEST(workload_generator, the_normal_of_a_draw_is_its_quantile) {
  std::vector<std::uint32_t> tails(4096);
  std::iota(tails.begin(), tails.end(), 0U);
  for (std::uint64_t tail = 4096; tail < (1ULL << 31); tail += tail / 977)
    tails.push_back(static_cast<std::uint32_t>(tail));
  tails.push_back(0x7fffffffU);
  float last = 10.0F;
  for (const std::uint32_t tail : tails) {
    const float z = normal(normal_table(), tail);
    EXPECT_LE(z, last) << tail;
    last = z;
    const double expected = (tail + 0.5) / 4294967296.0;
    EXPECT_NEAR(probability_below(-static_cast<double>(z)) / expected, 1.0, 1.5e-4) << tail;
    EXPECT_EQ(normal(normal_table(), tail | 0x80000000U), -z);
  }
}

TEST(workload_generator, normals_have_the_moments_of_the_normal_distribution) {
  const auto values = normals(4'000'000, kSeed, DrawStream::gemm1_weights_scale, 0);
  double moment[5] = {};
  std::int64_t negative = 0;
  for (const float value : values) {
    double power = 1;
    for (double& m : moment) {
      m += power;
      power *= static_cast<double>(value);
    }
    negative += value < 0 ? 1 : 0;
  }
  const double n = moment[0];
  EXPECT_NEAR(moment[1] / n, 0.0, 5 * 1.0 / std::sqrt(n));
  EXPECT_NEAR(moment[2] / n, 1.0, 5 * std::sqrt(2.0 / n));
  EXPECT_NEAR(moment[3] / n, 0.0, 5 * std::sqrt(15.0 / n));
  EXPECT_NEAR(moment[4] / n, 3.0, 5 * std::sqrt(96.0 / n));
  EXPECT_NEAR(static_cast<double>(negative) / n, 0.5, 5 * 0.5 / std::sqrt(n))
      << "half of the official scales are negative";
}

TEST(workload_generator, codes_are_normals_clamped_to_2_and_rounded) {
  const auto drawn = codes(4'000'000, kSeed, DrawStream::gemm1_weights, 0);
  std::vector<std::int64_t> seen(256);
  for (const std::uint8_t code : drawn) ++seen[code];
  const auto n = static_cast<double>(drawn.size());
  for (int code = 0; code < 128; ++code) {
    const auto value_of = [](int c) {
      return static_cast<double>(contract::e4m3_decode(static_cast<std::uint8_t>(c)));
    };
    const double value = code < 127 ? value_of(code) : 1e9;
    double expected = 0;
    if (value < 2) {  // what rounds to it: to the middle of the neighbours on either side
      const double below = code == 0 ? 0 : (value_of(code - 1) + value) / 2;
      expected = probability_below((value + value_of(code + 1)) / 2) - probability_below(below);
    } else if (value == 2) {
      expected = 1 - probability_below((value_of(code - 1) + 2) / 2);
    }
    for (const int signed_code : {code, code | 0x80}) {
      const double share = static_cast<double>(seen[static_cast<std::size_t>(signed_code)]) / n;
      EXPECT_NEAR(share, expected, 5 * std::sqrt(expected / n) + 1.0 / 65536) << signed_code;
    }
  }
}

TEST(workload_generator, weights_are_quantised_per_block_with_amax_over_448) {
  const std::int64_t matrices = 2, rows = 256, columns = 384;
  const Quantised q = weights(matrices, rows, columns, kSeed, 0);
  for (std::int64_t block = 0; block < matrices * (rows / 128) * (columns / 128); ++block) {
    const std::int64_t first_row = block / (columns / 128) * 128;
    const std::int64_t first_column = block % (columns / 128) * 128;
    float amax = 0;
    bool has_largest_code = false;
    for (std::int64_t r = 0; r < 128; ++r) {
      for (std::int64_t c = 0; c < 128; ++c) {
        const auto element = static_cast<std::uint64_t>((first_row + r) * columns + first_column + c);
        amax = std::max(amax, std::fabs(weight_at(normal_table(), kSeed, DrawStream::gemm1_weights, element)));
        has_largest_code = has_largest_code || (q.codes[element] & 0x7fU) == 0x7eU;
      }
    }
    EXPECT_EQ(q.scales[static_cast<std::size_t>(block)], amax / 448.0F) << block;
    EXPECT_TRUE(has_largest_code) << block;
    for (std::int64_t i = 0; i < 128 * 128; ++i) {
      const auto element = static_cast<std::uint64_t>((first_row + i / 128) * columns + first_column + i % 128);
      const float value = weight_at(normal_table(), kSeed, DrawStream::gemm1_weights, element);
      ASSERT_EQ(q.codes[element], contract::e4m3_encode(value * (448.0F / amax))) << element;
    }
  }
}

TEST(workload_generator, weights_have_a_deviation_of_0_02_and_their_scales_differ) {
  const Quantised q = weights(1, 1024, 1024, kSeed, 0);
  double sum = 0, squares = 0;
  for (std::size_t i = 0; i < q.codes.size(); ++i) {
    const std::size_t block = i / 1024 / 128 * 8 + i % 1024 / 128;
    const double value = static_cast<double>(contract::e4m3_decode(q.codes[i])) * static_cast<double>(q.scales[block]);
    sum += value;
    squares += value * value;
  }
  const auto n = static_cast<double>(q.codes.size());
  EXPECT_NEAR(sum / n, 0, 5 * 0.02 / std::sqrt(n));
  EXPECT_NEAR(std::sqrt(squares / n), 0.02, 1e-4);
  std::vector<float> scales = q.scales;
  std::sort(scales.begin(), scales.end());
  EXPECT_EQ(std::unique(scales.begin(), scales.end()) - scales.begin(), 64) << "no two of 64 blocks share a scale";
  EXPECT_GT(scales.front(), 0);
}

TEST(workload_generator, activations_are_quantised_per_token_and_128_channels) {
  const std::int64_t tokens = 9, hidden = 512;
  const Quantised q = activations(tokens, hidden, kSeed, 0);
  for (std::int64_t token = 0; token < tokens; ++token) {
    for (std::int64_t block = 0; block < hidden / 128; ++block) {
      std::vector<float> values;
      for (std::int64_t c = block * 128; c < (block + 1) * 128; ++c) {
        const auto element = static_cast<std::uint64_t>(token * hidden + c);
        values.push_back(activation_of(normal_at(normal_table(), kSeed, DrawStream::hidden_states, element),
                                       token_gain_at(kSeed, static_cast<std::uint64_t>(token)),
                                       channel_gain_at(kSeed, static_cast<std::uint64_t>(c))));
      }
      float amax = 0;
      for (const float value : values) amax = std::max(amax, std::fabs(value));
      EXPECT_EQ(q.scales[static_cast<std::size_t>(block * tokens + token)], amax / 448.0F);
      for (std::size_t i = 0; i < values.size(); ++i) {
        const auto element = static_cast<std::size_t>(token * hidden + block * 128) + i;
        ASSERT_EQ(q.codes[element], contract::e4m3_encode(values[i] * (448.0F / amax)));
      }
    }
  }
}

TEST(workload_generator, some_channels_are_outliers_and_tokens_differ_in_size) {
  int outliers = 0;
  for (std::uint64_t c = 0; c < 7168; ++c) {
    const float gain = channel_gain_at(kSeed, c);
    EXPECT_TRUE(gain == 1.0F || (gain >= 16.0F && gain < 64.0F)) << gain;
    outliers += gain > 1.0F ? 1 : 0;
  }
  EXPECT_NEAR(outliers, 28, 5 * std::sqrt(28.0));
  for (std::uint64_t t = 0; t < 1000; ++t) {
    const float gain = token_gain_at(kSeed, t);
    EXPECT_TRUE(gain >= 0.5F && gain < 2.0F) << gain;
  }
  EXPECT_NE(token_gain_at(kSeed, 0), token_gain_at(kSeed, 1));
}

TEST(workload_generator, logarithms_are_right) {
  double x = 1;
  for (int i = 0; i < 44; ++i, x *= 1.37) EXPECT_NEAR(log_of(x), std::log(x), 1e-14 * std::max(1.0, std::log(x)));
}

TEST(workload_generator, the_order_of_experts_is_a_permutation) {
  std::vector<std::int32_t> order = expert_order(256, kSeed);
  EXPECT_NE(order, expert_order(256, kSeed + 1));
  std::sort(order.begin(), order.end());
  std::vector<std::int32_t> all(256);
  std::iota(all.begin(), all.end(), 0);
  EXPECT_EQ(order, all);
}

}  // namespace
}  // namespace blockmoe::workload
