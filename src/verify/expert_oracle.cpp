#include "verify/expert_oracle.hpp"

#include <Eigen/Core>
#include <algorithm>
#include <cfloat>
#include <cmath>
#include <limits>

#include "verify/e4m3_oracle.hpp"
#include "verify/fp32_range.hpp"
#include "verify/parallel.hpp"

namespace blockmoe::verify {
namespace {

constexpr std::int64_t kBlock = contract::kScaleBlock;
using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Tile = Eigen::Map<const Matrix, Eigen::Unaligned, Eigen::OuterStride<>>;

std::size_t index(std::int64_t i) {
  return static_cast<std::size_t>(i);
}

void decode_codes(const std::uint8_t* codes, std::int64_t count, double* values) {
  const std::array<double, 256>& table = e4m3_values();
  for (std::int64_t i = 0; i < count; ++i) values[i] = table[codes[i]];
}

/// 128 rows of a weight tensor: 128 columns of the product.
struct WeightRows {
  const std::uint8_t* codes;  // [128, width]
  const float* scales;        // [width/128]
  std::int64_t width;
};

/// The fp32 product of two scales, with FP64's precision. Infinite where fp32 overflows though both are finite.
double scale_product(double activation, float weight) {
  const double product = with_fp32_underflow(activation * static_cast<double>(weight));
  return std::abs(product) > FLT_MAX ? std::copysign(std::numeric_limits<double>::infinity(), product) : product;
}

/// Multiplies some rows by one block of weight columns, K block by K block.
class BlockProduct {
 public:
  BlockProduct(std::span<const RowView> rows, const WeightRows& weights)
      : rows_(rows),
        sum_(Matrix::Zero(std::ssize(rows), kBlock)),
        bound_(rows.size(), 0.0),
        tile_(scratch_tile()),
        gathered_(std::ssize(rows), kBlock),
        partial_(std::ssize(rows), kBlock) {
    for (std::int64_t k = 0; k < weights.width; k += kTileWidth) {
      const std::int64_t width = std::min(kTileWidth, weights.width - k);
      decode(weights, k, width);
      for (std::int64_t offset = 0; offset < width; offset += kBlock) {
        multiply(Tile(tile_ + offset, kBlock, kBlock, Eigen::OuterStride<>(kTilePitch)), k + offset);
        promote(weights.scales[(k + offset) / kBlock], (k + offset) / kBlock);
      }
    }
  }

  /// The 128 columns of row r.
  const double* row(std::size_t r) const { return sum_.row(static_cast<Eigen::Index>(r)).data(); }

  /// True where the sum of row r may overflow fp32 in some order of its terms, though no operand is infinite.
  bool may_overflow(std::size_t r) const { return bound_[r] >= kOverflow; }

 private:
  // Wide enough for the memory to be read in long pieces; the pitch avoids powers of two.
  static constexpr std::int64_t kTileWidth = 8 * kBlock;
  static constexpr std::int64_t kTilePitch = kTileWidth + 8;

  /// The thread's own tile: a megabyte that would cost page faults if each block of columns allocated it.
  static double* scratch_tile() {
    thread_local std::vector<double> tile(index(kBlock * kTilePitch));
    return tile.data();
  }

  void decode(const WeightRows& weights, std::int64_t k, std::int64_t width) {
    for (std::int64_t n = 0; n < kBlock; ++n) {
      decode_codes(weights.codes + n * weights.width + k, width, tile_ + n * kTilePitch);
    }
  }

  void multiply(const Tile& tile, std::int64_t k) {
    constexpr Eigen::Index kFewRows = 8;  // up to here Eigen is faster a row at a time
    const Eigen::Index count = partial_.rows();
    for (Eigen::Index r = 0; r < count; ++r) {
      const Eigen::Map<const Eigen::RowVectorXd> row(rows_[static_cast<std::size_t>(r)].values + k, kBlock);
      if (count <= kFewRows) {
        partial_.row(r).transpose().noalias() = tile * row.transpose();
      } else {
        gathered_.row(r) = row;
      }
    }
    if (count > kFewRows) partial_.noalias() = gathered_ * tile.transpose();
  }

  void promote(float weight_scale, std::int64_t k_block) {
    for (std::size_t r = 0; r < rows_.size(); ++r) {
      const double activation_scale = rows_[r].scales[k_block];
      const double factor = scale_product(activation_scale, weight_scale);
      const auto partial = partial_.row(static_cast<Eigen::Index>(r));
      sum_.row(static_cast<Eigen::Index>(r)) += factor * partial;
      if (!std::isfinite(activation_scale) || !std::isfinite(weight_scale)) continue;
      const double largest = partial.cwiseAbs().maxCoeff<Eigen::PropagateNumbers>();
      bound_[r] += std::isinf(factor) ? kOverflow : std::abs(factor) * (largest > 0.0 ? largest : 0.0);
    }
  }

  std::span<const RowView> rows_;
  Matrix sum_;                 // [rows, 128]
  std::vector<double> bound_;  // [rows] no element's terms add up to more in magnitude
  double* tile_;               // [128, kTilePitch] decoded weights
  Matrix gathered_;            // [rows, 128]
  Matrix partial_;             // [rows, 128]
};

/// x / (1 + exp(-x)) with fp32's underflow.
double silu(double x) {
  return with_fp32_underflow(x / (1.0 + std::exp(-x)));
}

/// Writes silu(gate) * up of one row's block. False where fp32's range is left: the result may overflow, or an absolute
/// error that fp32 makes among subnormal numbers is not lost in the block's requantisation.
bool activate(const double* gate, const double* up, double* out) {
  constexpr double kSubnormalSilu = 0x1p-119;  // |x * s| for a subnormal s
  constexpr double kSiluError = 1e-36;         // the contract's, where s is subnormal
  constexpr double kProductError = 0x1p-140;   // of a sum of subnormal terms
  constexpr double kLost = 0x1p-12;            // of a block's amax
  double amax = 0.0;
  double error = 0.0;
  bool finite = true;
  for (std::int64_t i = 0; i < kBlock; ++i) {
    const double activation = silu(gate[i]);
    out[i] = activation * up[i];
    const bool subnormal = activation != 0.0 && std::abs(activation) < kSubnormalSilu;
    error = std::fmax(error, (subnormal ? kSiluError : 0.0) * std::abs(up[i]) + kProductError * std::abs(activation));
    finite = finite && std::isfinite(gate[i]) && std::isfinite(up[i]);
    amax = std::fmax(amax, std::abs(out[i]));
  }
  if (!finite) return true;  // NaN or Inf from the inputs is promised
  return amax < kOverflow && (amax < kNothing || error <= kLost * amax);
}

std::size_t blocks(std::int64_t width) {
  return static_cast<std::size_t>(width / kBlock);
}

ScaledRows empty_rows(std::int64_t rows, std::int64_t width) {
  return {rows, width, std::vector<double>(index(rows * width)), std::vector<double>(index(rows) * blocks(width))};
}

/// Row r of `rows` from its codes and the scale of its first block; those of later blocks stand scales_pitch apart.
void decode_row(const std::uint8_t* codes, const float* scales, std::int64_t scales_pitch, ScaledRows& rows,
                std::int64_t r) {
  decode_codes(codes, rows.width, rows.values.data() + r * rows.width);
  const std::int64_t count = rows.width / kBlock;
  for (std::int64_t b = 0; b < count; ++b) {
    rows.scales[index(r * count + b)] = static_cast<double>(scales[b * scales_pitch]);
  }
}

/// Rounds 128 values to e4m3 with their common scale; returns the scale.
double requantise_block(const double* values, double* rounded) {
  double amax = 0.0;
  for (std::int64_t i = 0; i < kBlock; ++i) amax = std::fmax(amax, std::abs(values[i]));  // fmax ignores NaN
  const double inverse = amax < kNothing ? 0.0 : 448.0 / amax;
  for (std::int64_t i = 0; i < kBlock; ++i) rounded[i] = round_to_e4m3(values[i] * inverse);
  return amax < kNothing ? 1.0 : amax / 448.0;
}

template <typename Block>
Products whole_stage(std::int64_t width, const ScaledRows& rows, int threads, const Block& block) {
  Products products{std::vector<double>(index(rows.rows * width)), std::vector<std::uint8_t>(index(rows.rows))};
  std::vector<RowView> views;
  views.reserve(index(rows.rows));
  for (std::int64_t r = 0; r < rows.rows; ++r) views.push_back(view(rows, r));
  std::vector<std::vector<std::uint8_t>> flags(blocks(width), products.out_of_range);
  parallel_for(width / kBlock, threads, [&](std::int64_t b) {
    block(b, views, products.values.data() + b * kBlock, width, flags[index(b)].data());
  });
  for (const std::vector<std::uint8_t>& of_block : flags) {
    for (std::size_t r = 0; r < of_block.size(); ++r) products.out_of_range[r] |= of_block[r];
  }
  return products;
}

}  // namespace

RowView view(const ScaledRows& rows, std::int64_t row) {
  return {rows.values.data() + row * rows.width, rows.scales.data() + index(row) * blocks(rows.width)};
}

ScaledRows hidden_rows(const contract::Geometry& geometry, const contract::Activations& activations,
                       std::span<const std::int64_t> tokens) {
  ScaledRows rows = empty_rows(std::ssize(tokens), geometry.hidden);
  for (std::int64_t r = 0; r < rows.rows; ++r) {
    const std::int64_t token = tokens[index(r)];
    decode_row(activations.hidden + token * activations.hidden_pitch, activations.hidden_scale + token,
               activations.hidden_scale_pitch, rows, r);
  }
  return rows;
}

ScaledRows decode_rows(const std::uint8_t* codes, std::int64_t codes_pitch, const float* scales,
                       std::int64_t scales_pitch, std::int64_t rows, std::int64_t width) {
  ScaledRows decoded = empty_rows(rows, width);
  for (std::int64_t r = 0; r < rows; ++r) decode_row(codes + r * codes_pitch, scales + r, scales_pitch, decoded, r);
  return decoded;
}

ScaledRows requantise_rows(std::span<const double> values, std::int64_t width) {
  ScaledRows rows = empty_rows(std::ssize(values) / width, width);
  for (std::size_t b = 0; b < rows.scales.size(); ++b) {
    const std::size_t begin = b * index(kBlock);
    rows.scales[b] = requantise_block(values.data() + begin, rows.values.data() + begin);
  }
  return rows;
}

ScaledRows unscaled_rows(std::span<const double> values, std::int64_t width) {
  return {std::ssize(values) / width, width, std::vector<double>(values.begin(), values.end()),
          std::vector<double>(values.size() / index(kBlock), 1.0)};
}

void gemm1_block(const contract::Geometry& geometry, const contract::Weights& weights, std::int32_t local_expert,
                 std::int64_t block, std::span<const RowView> rows, double* activated, std::int64_t pitch,
                 std::uint8_t* out_of_range) {
  const std::int64_t hidden = geometry.hidden;
  const auto half = [&](std::int64_t first_row) {
    const std::int64_t row = local_expert * 2 * geometry.intermediate + first_row + block * kBlock;
    return WeightRows{weights.w13 + row * hidden, weights.w13_scale + row / kBlock * geometry.hidden_blocks(), hidden};
  };
  const BlockProduct up(rows, half(weights.up_row(geometry.intermediate)));
  const BlockProduct gate(rows, half(weights.gate_row(geometry.intermediate)));
  for (std::size_t r = 0; r < rows.size(); ++r) {
    const bool in_range = activate(gate.row(r), up.row(r), activated + static_cast<std::int64_t>(r) * pitch);
    if (!in_range || gate.may_overflow(r) || up.may_overflow(r)) out_of_range[r] = 1;
  }
}

void gemm2_block(const contract::Geometry& geometry, const contract::Weights& weights, std::int32_t local_expert,
                 std::int64_t block, std::span<const RowView> rows, double* out, std::int64_t pitch,
                 std::uint8_t* out_of_range) {
  const std::int64_t row = local_expert * geometry.hidden + block * kBlock;
  const BlockProduct product(
      rows, {weights.w2 + row * geometry.intermediate, weights.w2_scale + row / kBlock * geometry.intermediate_blocks(),
             geometry.intermediate});
  for (std::size_t r = 0; r < rows.size(); ++r) {
    std::copy(product.row(r), product.row(r) + kBlock, out + static_cast<std::int64_t>(r) * pitch);
    if (product.may_overflow(r)) out_of_range[r] = 1;
  }
}

Products gemm1_oracle(const contract::Geometry& geometry, const contract::Weights& weights, std::int32_t local_expert,
                      const ScaledRows& hidden, int threads) {
  return whole_stage(
      geometry.intermediate, hidden, threads,
      [&](std::int64_t block, std::span<const RowView> rows, double* out, std::int64_t pitch, std::uint8_t* flags) {
        gemm1_block(geometry, weights, local_expert, block, rows, out, pitch, flags);
      });
}

Products gemm2_oracle(const contract::Geometry& geometry, const contract::Weights& weights, std::int32_t local_expert,
                      const ScaledRows& inter, int threads) {
  return whole_stage(
      geometry.hidden, inter, threads,
      [&](std::int64_t block, std::span<const RowView> rows, double* out, std::int64_t pitch, std::uint8_t* flags) {
        gemm2_block(geometry, weights, local_expert, block, rows, out, pitch, flags);
      });
}

}  // namespace blockmoe::verify
