#include "workload/generator.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <utility>

#include "contract/e4m3.h"
#include "contract/geometry.h"
#include "contract/requantise.h"
#include "workload/parallel.hpp"

namespace blockmoe::workload {
namespace {

using contract::kScaleBlock;

// ---- tables -------------------------------------------------------------------------------------------------------

// exp(-x) for x in [0, 32]: Taylor series of exp(-x/1024), squared ten times. Relative error below 1e-12.
double exp_minus(double x) {
  const double small = x / 1024;
  double sum = 1;
  for (int n = 8; n >= 1; --n) sum = 1 - small / n * sum;
  for (int i = 0; i < 10; ++i) sum = sum * sum;
  return sum;
}

constexpr double kInverseRootOfTwoPi = 0.3989422804014326779;

double density(double z) {
  return kInverseRootOfTwoPi * exp_minus(z * z / 2);
}

// The probability beyond z >= 0. Below 2.5 from the series density(z) * (z + z^3/3 + z^5/15 + ...), above from the continued
// fraction density(z) / (z + 1/(z + 2/(z + ...))).
double tail_of(double z) {
  if (z < 2.5) {
    double term = z;
    double sum = z;
    for (int n = 3; n < 81; n += 2) {
      term = term * z * z / n;
      sum = sum + term;
    }
    return 0.5 - density(z) * sum;
  }
  double fraction = z;
  for (int n = 120; n >= 1; --n) fraction = z + n / fraction;
  return density(z) / fraction;
}

// z with tail_of(z) = p, by Newton's method from a z near it.
double quantile(double p, double near) {
  double z = near;
  for (int i = 0; i < 12; ++i) z = z + (tail_of(z) - p) / density(z);
  return z;
}

// First draw of segment n: the inverse of the numbering in normal().
std::uint64_t first_draw(std::uint32_t segment) {
  const std::uint32_t octave = segment / kSegments;
  if (octave == 0) return segment;
  return static_cast<std::uint64_t>(kSegments + segment % kSegments) << (octave - 1);
}

NormalTable make_normal_table() {
  NormalTable table{};
  double z = 0;
  for (std::uint32_t node = kNodes - 1; node-- > 0;) {  // the last node is the middle, 0
    const double p = (static_cast<double>(first_draw(node)) + 0.5) / 4294967296.0;
    z = quantile(p, z);
    table.value[node] = static_cast<float>(z);
  }
  return table;
}

ClampedCodes make_clamped_codes() {
  ClampedCodes codes{};
  for (std::uint32_t draw = 0; draw < std::size(codes.code); ++draw) {
    codes.code[draw] = contract::e4m3_encode(std::min(normal(normal_table(), widened(draw)), 2.0F));
  }
  return codes;
}

// weight_of() the draws of 16 bits without their sign.
using WeightTable = std::array<float, std::size_t{1} << 15>;

const WeightTable& weight_table() {
  static const auto table = [] {
    auto made = std::make_unique<WeightTable>();
    for (std::uint32_t draw = 0; draw < made->size(); ++draw) (*made)[draw] = weight_of(normal_table(), widened(draw));
    return made;
  }();
  return *table;
}

// ---- pieces of tensors ----------------------------------------------------------------------------------------------

// The words of kBatch blocks of Philox, drawn together: the loops over lanes become vector instructions.
constexpr std::size_t kBatch = 16;
constexpr std::size_t kWords = 4 * kBatch;
constexpr std::size_t kHalves = 8 * kBatch;
using Words = std::array<std::uint32_t, kWords>;

struct Lanes {
  std::array<std::uint32_t, kBatch> word[4];
};

void round_of(Lanes& c, std::uint32_t key0, std::uint32_t key1) {
  for (std::size_t i = 0; i < kBatch; ++i) {
    const std::uint64_t product0 = static_cast<std::uint64_t>(kPhiloxMultiplier0) * c.word[0][i];
    const std::uint64_t product1 = static_cast<std::uint64_t>(kPhiloxMultiplier1) * c.word[2][i];
    c.word[0][i] = static_cast<std::uint32_t>(product1 >> 32) ^ c.word[1][i] ^ key0;
    c.word[1][i] = static_cast<std::uint32_t>(product1);
    c.word[2][i] = static_cast<std::uint32_t>(product0 >> 32) ^ c.word[3][i] ^ key1;
    c.word[3][i] = static_cast<std::uint32_t>(product0);
  }
}

// draw_block() of kBatch blocks that follow each other.
void draw_batch(Words& out, std::uint64_t seed, DrawStream stream, std::uint64_t first_block) {
  Lanes c;
  for (std::size_t i = 0; i < kBatch; ++i) {
    c.word[0][i] = static_cast<std::uint32_t>(first_block + i);
    c.word[1][i] = static_cast<std::uint32_t>((first_block + i) >> 32);
    c.word[2][i] = static_cast<std::uint32_t>(stream);
    c.word[3][i] = 0;
  }
  auto key0 = static_cast<std::uint32_t>(seed);
  auto key1 = static_cast<std::uint32_t>(seed >> 32);
  for (int round = 0; round < kPhiloxRounds; ++round) {
    round_of(c, key0, key1);
    key0 += kPhiloxStep0;
    key1 += kPhiloxStep1;
  }
  for (std::size_t i = 0; i < kBatch; ++i) {
    for (std::size_t w = 0; w < 4; ++w) out[4 * i + w] = c.word[w][i];
  }
}

std::uint32_t half_of(const Words& words, std::size_t element) {
  return (words[element / 2] >> (16 * (element % 2))) & 0xffffU;
}

// Elements [begin, end) of a tensor; `begin` is the first element of a batch.
void normals_piece(float* out, std::size_t begin, std::size_t end, std::uint64_t seed, DrawStream stream,
                   const NormalTable& table) {
  Words words;
  for (std::size_t batch = begin; batch < end; batch += kWords) {
    draw_batch(words, seed, stream, batch / 4);
    const std::size_t count = std::min(kWords, end - batch);
    for (std::size_t i = 0; i < count; ++i) out[batch + i] = normal(table, words[i]);
  }
}

void clamped_codes_piece(std::uint8_t* out, std::size_t begin, std::size_t end, std::uint64_t seed, DrawStream stream,
                         const ClampedCodes& codes) {
  Words words;
  for (std::size_t batch = begin; batch < end; batch += kHalves) {
    draw_batch(words, seed, stream, batch / 8);
    const std::size_t count = std::min(kHalves, end - batch);
    for (std::size_t i = 0; i < count; ++i) out[batch + i] = clamped_code(codes, half_of(words, i));
  }
}

constexpr std::size_t kSide = static_cast<std::size_t>(kScaleBlock);
static_assert(kHalves == kSide, "a batch is a row of a block of weights");
using Row = std::array<float, kSide>;
using Tile = std::array<Row, kSide>;

void quantise_row(const Row& values, float inverse, std::uint8_t* codes) {
  for (std::size_t i = 0; i < kSide; ++i) codes[i] = contract::requantise(values[i], inverse);
}

// weight_at() of 128 elements in a row; returns their amax.
float draw_weights(Row& values, std::uint64_t seed, DrawStream stream, std::size_t first_element,
                   const WeightTable& table) {
  Words words;
  draw_batch(words, seed, stream, first_element / 8);
  float amax = 0;
  for (std::size_t i = 0; i < kSide; ++i) {
    const std::uint32_t draw = half_of(words, i);
    values[i] = contract::float_of(contract::bits_of(table[draw & 0x7fffU]) | ((draw & 0x8000U) << 16));
    if (in_fine_tail(draw)) values[i] = weight_at(normal_table(), seed, stream, first_element + i);
    amax = contract::amax_step(amax, values[i]);
  }
  return amax;
}

// One 128x128 block: rows `pitch` elements apart, from element `first`. Returns its scale.
float weights_block(std::uint8_t* codes, std::size_t first, std::size_t pitch, std::uint64_t seed, DrawStream stream,
                    const WeightTable& table, Tile& values) {
  float amax = 0;
  for (std::size_t r = 0; r < kSide; ++r) {
    amax = std::max(amax, draw_weights(values[r], seed, stream, first + r * pitch, table));
  }
  const contract::BlockScale scale = contract::block_scale(amax);
  for (std::size_t r = 0; r < kSide; ++r) quantise_row(values[r], scale.inverse, codes + first + r * pitch);
  return scale.scale;
}

// 128 channels of a token, from element `first`. Returns their scale.
float activations_block(std::uint8_t* codes, std::size_t first, std::uint64_t seed, float token_gain,
                        const float* channel_gains, const NormalTable& table) {
  Row values;
  Words words;
  float amax = 0;
  for (std::size_t i = 0; i < kSide; ++i) {
    if (i % kWords == 0) draw_batch(words, seed, DrawStream::hidden_states, (first + i) / 4);
    values[i] = activation_of(normal(table, words[i % kWords]), token_gain, channel_gains[i]);
    amax = contract::amax_step(amax, values[i]);
  }
  const contract::BlockScale scale = contract::block_scale(amax);
  quantise_row(values, scale.inverse, codes + first);
  return scale.scale;
}

constexpr std::int64_t kGrain = std::int64_t{1} << 18;  // elements a piece of work
static_assert(kGrain % kHalves == 0 && kGrain % kWords == 0);

}  // namespace

const NormalTable& normal_table() {
  static const NormalTable table = make_normal_table();
  return table;
}

const ClampedCodes& clamped_codes() {
  static const ClampedCodes codes = make_clamped_codes();
  return codes;
}

double log_of(double x) {
  constexpr double kLn2 = 0.693147180559945309417;
  int halvings = 0;
  while (x > 1.5) {
    x = x / 2;
    ++halvings;
  }
  const double t = (x - 1) / (x + 1);  // |t| <= 1/5
  double sum = 0;
  for (int n = 25; n >= 1; n -= 2) sum = sum * t * t + 1.0 / n;
  return 2 * t * sum + kLn2 * halvings;
}

void draw_normals(float* out, std::int64_t count, std::uint64_t seed, DrawStream stream, int threads) {
  const NormalTable& table = normal_table();
  parallel_for(count, kGrain, threads, [&](std::int64_t begin, std::int64_t end) {
    normals_piece(out, static_cast<std::size_t>(begin), static_cast<std::size_t>(end), seed, stream, table);
  });
}

void draw_clamped_codes(std::uint8_t* out, std::int64_t count, std::uint64_t seed, DrawStream stream, int threads) {
  const ClampedCodes& codes = clamped_codes();
  parallel_for(count, kGrain, threads, [&](std::int64_t begin, std::int64_t end) {
    clamped_codes_piece(out, static_cast<std::size_t>(begin), static_cast<std::size_t>(end), seed, stream, codes);
  });
}

void draw_quantised_weights(std::uint8_t* codes, float* scales, std::int64_t matrices, std::int64_t rows,
                            std::int64_t columns, std::uint64_t seed, DrawStream stream, int threads) {
  constexpr std::int64_t kBlocksAPiece = 16;
  const WeightTable& table = weight_table();
  const std::int64_t column_blocks = columns / kScaleBlock;
  const std::int64_t blocks = matrices * (rows / kScaleBlock) * column_blocks;
  parallel_for(blocks, kBlocksAPiece, threads, [&](std::int64_t begin, std::int64_t end) {
    const auto values = std::make_unique<Tile>();
    for (std::int64_t block = begin; block < end; ++block) {
      // Blocks are numbered as their scales lie; the block rows of all matrices follow each other.
      const std::int64_t first = (block / column_blocks * columns + block % column_blocks) * kScaleBlock;
      scales[block] = weights_block(codes, static_cast<std::size_t>(first), static_cast<std::size_t>(columns), seed,
                                    stream, table, *values);
    }
  });
}

void draw_quantised_activations(std::uint8_t* codes, float* scales, std::int64_t tokens, std::int64_t hidden,
                                std::uint64_t seed, int threads) {
  constexpr std::int64_t kTokensAPiece = 16;
  const NormalTable& table = normal_table();
  std::vector<float> channel_gains(static_cast<std::size_t>(hidden));
  for (std::size_t c = 0; c < channel_gains.size(); ++c) channel_gains[c] = channel_gain_at(seed, c);
  parallel_for(tokens, kTokensAPiece, threads, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t token = begin; token < end; ++token) {
      const float token_gain = token_gain_at(seed, static_cast<std::uint64_t>(token));
      for (std::int64_t block = 0; block < hidden / kScaleBlock; ++block) {
        const std::int64_t channel = block * kScaleBlock;
        scales[block * tokens + token] =
            activations_block(codes, static_cast<std::size_t>(token * hidden + channel), seed, token_gain,
                              &channel_gains[static_cast<std::size_t>(channel)], table);
      }
    }
  });
}

std::vector<std::int32_t> expert_order(std::int32_t experts, std::uint64_t seed) {
  std::vector<std::int32_t> order(static_cast<std::size_t>(experts));
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::int32_t>(i);
  for (std::size_t i = order.size(); i > 1; --i) {
    const std::uint64_t draw = draw32(seed, DrawStream::expert_order, i);
    std::swap(order[i - 1], order[(draw * i) >> 32]);
  }
  return order;
}

}  // namespace blockmoe::workload
