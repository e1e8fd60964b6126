// draw.h: random numbers that depend on (seed, tensor, element) alone, for host and device: any element of any tensor can be drawn
// by itself, in any order, by any number of threads, with the same bytes.
//
// The bits are Philox4x32-10's (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011): key = seed,
// counter = (block number, tensor). A block is 128 bits: 4 draws of 32 bits or 8 of 16.
//
// Normal numbers are quantiles: the top bit of a draw is the sign, the other 31 are the distance from the tail, through a table of
// 26 octaves x 64 segments with linear interpolation (relative error below 3e-5; the largest value is 6.34). Draws of 16 bits
// stand for the middle of their 2^16 draws of 32 bits; the last 2^-9 of each tail takes 16 more bits, so that the largest
// magnitude of a block of weights is as fine as a float.
#pragma once

#include "contract/host_device.h"

namespace blockmoe::workload {

/// The counter's third word. Numbers are part of the bytes: never renumber.
enum class DrawStream : std::uint32_t {
  routing_logits = 1,
  routing_bias = 2,
  hidden_states = 3,
  hidden_states_scale = 4,
  gemm1_weights = 5,
  gemm1_weights_scale = 6,
  gemm2_weights = 7,
  gemm2_weights_scale = 8,
  expert_order = 9,   ///< of popularity, for skewed logits
  channel_gain = 10,  ///< outlier channels of activations
  token_gain = 11     ///< size of a token's activations
};

struct PhiloxBlock {
  std::uint32_t word[4];
};

inline constexpr int kPhiloxRounds = 10;
inline constexpr std::uint32_t kPhiloxMultiplier0 = 0xd2511f53u;
inline constexpr std::uint32_t kPhiloxMultiplier1 = 0xcd9e8d57u;
inline constexpr std::uint32_t kPhiloxStep0 = 0x9e3779b9u;
inline constexpr std::uint32_t kPhiloxStep1 = 0xbb67ae85u;

BLOCKMOE_HD PhiloxBlock philox(PhiloxBlock counter, std::uint32_t key0, std::uint32_t key1) {
  for (int round = 0; round < kPhiloxRounds; ++round) {
    const std::uint64_t product0 = static_cast<std::uint64_t>(kPhiloxMultiplier0) * counter.word[0];
    const std::uint64_t product1 = static_cast<std::uint64_t>(kPhiloxMultiplier1) * counter.word[2];
    const auto high0 = static_cast<std::uint32_t>(product0 >> 32);
    const auto high1 = static_cast<std::uint32_t>(product1 >> 32);
    counter = {{high1 ^ counter.word[1] ^ key0, static_cast<std::uint32_t>(product1), high0 ^ counter.word[3] ^ key1,
                static_cast<std::uint32_t>(product0)}};
    key0 += kPhiloxStep0;
    key1 += kPhiloxStep1;
  }
  return counter;
}

// `fine` blocks hold the further bits of draws whose first 16 fell into a tail.
BLOCKMOE_HD PhiloxBlock draw_block(std::uint64_t seed, DrawStream stream, std::uint64_t block, bool fine = false) {
  const PhiloxBlock counter = {{static_cast<std::uint32_t>(block), static_cast<std::uint32_t>(block >> 32),
                                static_cast<std::uint32_t>(stream), fine ? 1u : 0u}};
  return philox(counter, static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32));
}

BLOCKMOE_HD std::uint32_t draw32(std::uint64_t seed, DrawStream stream, std::uint64_t element) {
  return draw_block(seed, stream, element / 4).word[element % 4];
}

BLOCKMOE_HD std::uint32_t half_of(const PhiloxBlock& block, std::uint64_t element) {
  return (block.word[element % 8 / 2] >> (16 * (element % 2))) & 0xffffu;
}

BLOCKMOE_HD std::uint32_t draw16(std::uint64_t seed, DrawStream stream, std::uint64_t element, bool fine = false) {
  return half_of(draw_block(seed, stream, element / 8, fine), element);
}

inline constexpr std::uint32_t kSegments = 64;  // an octave of tail probability
inline constexpr std::uint32_t kOctaves = 26;   // the first holds the 64 smallest probabilities one by one
inline constexpr std::uint32_t kNodes = kOctaves * kSegments + 1;

/// value[n]: the quantile at the beginning of segment n, from 6.34 down to 0. Filled by normal_table() (generator.hpp).
struct NormalTable {
  float value[kNodes];
};

BLOCKMOE_HD std::uint32_t log2_of(std::uint32_t nonzero) {
#if defined(__CUDA_ARCH__)
  return 31u - static_cast<std::uint32_t>(__clz(static_cast<int>(nonzero)));
#else
  return 31u - static_cast<std::uint32_t>(__builtin_clz(nonzero));
#endif
}

/// The normal number of a draw of 32 bits.
BLOCKMOE_HD float normal(const NormalTable& table, std::uint32_t draw) {
  const std::uint32_t tail = draw & 0x7fffffffu;
  const std::uint32_t octave = tail < kSegments ? 0u : log2_of(tail) - 5u;  // 1: tails of 64 to 127
  const std::uint32_t shift = octave == 0u ? 0u : octave - 1u;              // log2 of a segment's draws
  const std::uint32_t segment = octave == 0u ? tail : octave * kSegments + ((tail >> shift) - kSegments);
  const float within =
      contract::rn::mul(static_cast<float>(tail & ((1u << shift) - 1u)), contract::float_of((127u - shift) << 23));
  const float begin = table.value[segment];
  const float slope = contract::rn::add(table.value[segment + 1u], -begin);
  const float magnitude = contract::rn::add(begin, contract::rn::mul(within, slope));
  return contract::float_of(contract::bits_of(magnitude) | (draw & 0x80000000u));
}

BLOCKMOE_HD float normal_at(const NormalTable& table, std::uint64_t seed, DrawStream stream, std::uint64_t element) {
  return normal(table, draw32(seed, stream, element));
}

// Draws of 16 bits whose distance from the tail is below this (of 2^15) take 16 more bits.
inline constexpr std::uint32_t kFineTail = 64;

BLOCKMOE_HD bool in_fine_tail(std::uint32_t draw) {
  return (draw & 0x7fffu) < kFineTail;
}

/// The draw of 32 bits that stands for one of 16.
BLOCKMOE_HD std::uint32_t widened(std::uint32_t draw) {
  return (draw << 16) | 0x8000u;
}

/// A weight of profile `model` before it is quantised: N(0, 0.02).
inline constexpr float kWeightDeviation = 0.02f;

BLOCKMOE_HD float weight_of(const NormalTable& table, std::uint32_t draw32) {
  return contract::rn::mul(kWeightDeviation, normal(table, draw32));
}

BLOCKMOE_HD float weight_at(const NormalTable& table, std::uint64_t seed, DrawStream stream, std::uint64_t element) {
  const std::uint32_t draw = draw16(seed, stream, element);
  if (!in_fine_tail(draw)) return weight_of(table, widened(draw));
  return weight_of(table, (draw << 16) | draw16(seed, stream, element, true));
}

/// Activations of profile `model` before they are quantised: normal x token's gain x channel's gain. A token's gain is uniform in
/// [0.5, 2); one channel in 256 or so is an outlier with a gain uniform in [16, 64), the others have 1.
BLOCKMOE_HD float uniform(std::uint32_t draw) {  // [0, 1), multiples of 2^-24
  return contract::rn::mul(static_cast<float>(draw >> 8), 5.9604644775390625e-8f);
}

BLOCKMOE_HD float token_gain_at(std::uint64_t seed, std::uint64_t token) {
  return contract::rn::add(0.5f, contract::rn::mul(1.5f, uniform(draw32(seed, DrawStream::token_gain, token))));
}

BLOCKMOE_HD float channel_gain_at(std::uint64_t seed, std::uint64_t channel) {
  constexpr std::uint32_t kOutliers = 1u << 24;  // draws of 2^32 that make an outlier
  const std::uint32_t draw = draw32(seed, DrawStream::channel_gain, channel);
  if (draw >= kOutliers) return 1.0f;
  return contract::rn::add(16.0f, contract::rn::mul(48.0f, uniform(draw << 8)));
}

BLOCKMOE_HD float activation_of(float normal_number, float token_gain, float channel_gain) {
  return contract::rn::mul(contract::rn::mul(normal_number, token_gain), channel_gain);
}

/// codes[d] for the draws d of 16 bits without their sign: the e4m3 of a normal number clamped to [-2, 2].
struct ClampedCodes {
  std::uint8_t code[1u << 15];
};

BLOCKMOE_HD std::uint8_t clamped_code(const ClampedCodes& codes, std::uint32_t draw) {
  return static_cast<std::uint8_t>(codes.code[draw & 0x7fffu] | ((draw >> 8) & 0x80u));
}

BLOCKMOE_HD std::uint8_t clamped_code_at(const ClampedCodes& codes, std::uint64_t seed, DrawStream stream,
                                         std::uint64_t element) {
  return clamped_code(codes, draw16(seed, stream, element));
}

}  // namespace blockmoe::workload
