// expert_oracle_cuda.cu: see expert_oracle_cuda.hpp. Written for plainness: FP64 multiply-adds from tiles in shared memory.
//
// A part of the rows at a time (kPartRows), R of them:
//
//   hidden [T, H] e4m3 -> values [R, H], scales [R, H/128]     decode_hidden
//   values [R, H] x w13 [L, 2I, H] -> product [R, 2I]          multiply
//   product -> plain [R, I]                                    activate
//   plain -> values [R, I], scales [R, I/128]                  requantise
//   values [R, I] x w2 [L, H, I] -> out [R, H]                 multiply, once for each form
#include "verify/expert_oracle_cuda.hpp"

#include <algorithm>
#include <cfloat>
#include <cstddef>

#include "measure/cuda_check.hpp"
#include "verify/e4m3_oracle.hpp"
#include "verify/fp32_range.hpp"

namespace blockmoe::verify {
namespace {

using measure::allocate;
using measure::DeviceMemory;

constexpr int kBlock = 128;
constexpr std::int64_t kPartRows = 4096;
constexpr int kTile = 64;   // rows and columns of a CTA's tile of the product
constexpr int kDepth = 16;  // of K at a time in shared memory
constexpr int kThreads = 256;

// What the device needs of e4m3_values(): one table, copied once a call.
struct CodeValues {
  double value[256];
};

// Rows of one expert that share a tile.
struct RowTile {
  std::int32_t expert;
  std::int32_t first;  // row of the part
  std::int32_t count;  // at most kTile
};

// [rows, width] values that stand for value * scale.
struct Operand {
  const double* values;  // [R, width]
  const double* scales;  // [R, width/128]
};

struct WeightTensor {
  const std::uint8_t* codes;  // [L, columns, width]
  const float* scales;        // [L, columns/128, width/128]
  std::int64_t columns;
  std::int64_t width;
};

__device__ double with_underflow(double x) {
  return fabs(x) < 0x1p-126 ? static_cast<double>(static_cast<float>(x)) : x;
}

__global__ void decode_hidden(const std::uint8_t* codes, std::int64_t pitch, const float* scales,
                              std::int64_t scales_pitch, std::int64_t hidden, const std::int64_t* tokens,
                              const CodeValues* table, double* values, double* out_scales) {
  const std::int64_t row = blockIdx.x;
  const std::int64_t token = tokens[row];
  for (std::int64_t i = threadIdx.x; i < hidden; i += blockDim.x)
    values[row * hidden + i] = table->value[codes[token * pitch + i]];
  for (std::int64_t b = threadIdx.x; b < hidden / kBlock; b += blockDim.x)
    out_scales[row * (hidden / kBlock) + b] = static_cast<double>(scales[b * scales_pitch + token]);
}

// out[r, n] = sum over blocks of K of (a_scale * w_scale) * (partial over the block); `out_of_range[r]` is set where the
// terms of an element may overflow fp32 in some order though no scale is infinite.
__global__ void __launch_bounds__(kThreads) multiply(Operand a, WeightTensor w, const RowTile* tiles,
                                                     const CodeValues* table, double* out, std::uint8_t* out_of_range) {
  __shared__ double a_tile[kDepth][kTile + 1];
  __shared__ double w_tile[kDepth][kTile + 1];
  __shared__ double decoded[256];
  const RowTile tile = tiles[blockIdx.y];
  const std::int64_t column0 = static_cast<std::int64_t>(blockIdx.x) * kTile;
  const std::int64_t blocks = w.width / kBlock;
  const int tx = threadIdx.x % 16;
  const int ty = threadIdx.x / 16;
  decoded[threadIdx.x] = table->value[threadIdx.x];
  const std::uint8_t* const w_rows = w.codes + (tile.expert * w.columns + column0) * w.width;
  const float* const w_scales = w.scales + (tile.expert * (w.columns / kBlock) + column0 / kBlock) * blocks;
  double sum[4][4] = {};
  double bound[4][4] = {};
  for (std::int64_t block = 0; block < blocks; ++block) {
    double partial[4][4] = {};
    for (int k0 = 0; k0 < kBlock; k0 += kDepth) {
      __syncthreads();
      for (int i = threadIdx.x; i < kTile * kDepth; i += kThreads) {
        const int r = i / kDepth;
        const int k = i % kDepth;
        const std::int64_t column = block * kBlock + k0 + k;
        a_tile[k][r] = r < tile.count ? a.values[(tile.first + r) * w.width + column] : 0.0;
        w_tile[k][r] = decoded[w_rows[r * w.width + column]];
      }
      __syncthreads();
#pragma unroll
      for (int k = 0; k < kDepth; ++k) {
        double left[4];
        double right[4];
        for (int i = 0; i < 4; ++i) left[i] = a_tile[k][ty + 16 * i];
        for (int j = 0; j < 4; ++j) right[j] = w_tile[k][tx + 16 * j];
        for (int i = 0; i < 4; ++i)
          for (int j = 0; j < 4; ++j) partial[i][j] = fma(left[i], right[j], partial[i][j]);
      }
    }
    const double w_scale = static_cast<double>(w_scales[block]);
    for (int i = 0; i < 4; ++i) {
      if (ty + 16 * i >= tile.count) continue;
      const double a_scale = a.scales[(tile.first + ty + 16 * i) * blocks + block];
      double factor = with_underflow(a_scale * w_scale);
      if (fabs(factor) > FLT_MAX) factor = copysign(HUGE_VAL, factor);
      const bool bounded = isfinite(a_scale) && isfinite(w_scale);
      for (int j = 0; j < 4; ++j) {
        sum[i][j] += factor * partial[i][j];
        if (bounded)
          bound[i][j] += fabs(factor) * (isinf(factor) ? fmax(1.0, fabs(partial[i][j])) : fabs(partial[i][j]));
      }
    }
  }
  for (int i = 0; i < 4; ++i) {
    const int r = ty + 16 * i;
    if (r >= tile.count) continue;
    for (int j = 0; j < 4; ++j) {
      out[(tile.first + r) * w.columns + column0 + tx + 16 * j] = sum[i][j];
      if (bound[i][j] >= kOverflow) out_of_range[tile.first + r] = 1;
    }
  }
}

// A thread of 128 owns one value of a block (blockIdx.x: row, blockIdx.y: block of I); shared memory holds what the block
// has in common.
__device__ double block_max(double value) {
  __shared__ double shared[kBlock];
  __syncthreads();
  shared[threadIdx.x] = value;
  for (int half = kBlock / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) shared[threadIdx.x] = fmax(shared[threadIdx.x], shared[threadIdx.x + half]);
  }
  __syncthreads();
  return shared[0];
}

// plain[r, i] = silu(gate) * up; the rules for `out_of_range` are expert_oracle.cpp's activate().
__global__ void __launch_bounds__(kBlock) activate(const double* product, std::int64_t intermediate, std::int64_t up,
                                                   std::int64_t gate, double* plain, std::uint8_t* out_of_range) {
  const std::int64_t row = blockIdx.x;
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.y) * kBlock + threadIdx.x;
  const double g = product[row * 2 * intermediate + gate + i];
  const double u = product[row * 2 * intermediate + up + i];
  const double activation = with_underflow(g / (1.0 + exp(-g)));
  const double value = activation * u;
  plain[row * intermediate + i] = value;
  const bool subnormal = activation != 0.0 && fabs(activation) < 0x1p-119;
  const double error = (subnormal ? 1e-36 : 0.0) * fabs(u) + 0x1p-140 * fabs(activation);
  const double amax = block_max(fabs(value));
  const double worst = block_max(error);
  const bool finite = __syncthreads_and(isfinite(g) && isfinite(u)) != 0;
  const bool in_range = !finite || (amax < kOverflow && (amax < kNothing || worst <= 0x1p-12 * amax));
  if (!in_range && threadIdx.x == 0) out_of_range[row] = 1;
}

// The nearest e4m3 value, ties to even: multiples of 2^-9 below 2^-6, else three bits of mantissa.
__device__ double nearest_e4m3(double x) {
  if (isnan(x)) return x;
  const double magnitude = fabs(x);
  const int exponent = magnitude < 0x1p-6 ? -6 : ilogb(magnitude);
  const double step = ldexp(1.0, exponent - 3);
  return copysign(fmin(rint(magnitude / step) * step, 448.0), x);
}

__global__ void __launch_bounds__(kBlock)
    requantise(const double* plain, std::int64_t intermediate, double* values, double* scales) {
  const std::int64_t row = blockIdx.x;
  const std::int64_t i = row * intermediate + static_cast<std::int64_t>(blockIdx.y) * kBlock + threadIdx.x;
  const double amax = block_max(isnan(plain[i]) ? 0.0 : fabs(plain[i]));
  const double inverse = amax < kNothing ? 0.0 : 448.0 / amax;
  values[i] = nearest_e4m3(plain[i] * inverse);
  if (threadIdx.x == 0) scales[row * (intermediate / kBlock) + blockIdx.y] = amax < kNothing ? 1.0 : amax / 448.0;
}

__global__ void fill(double* values, std::int64_t count, double value) {
  for (std::int64_t i = blockIdx.x * std::int64_t{blockDim.x} + threadIdx.x; i < count;
       i += std::int64_t{gridDim.x} * blockDim.x)
    values[i] = value;
}

struct Buffers {
  DeviceMemory table, tokens, tiles, flags, hidden, hidden_scales, product, plain, ones, codes, codes_scales, out;
};

Result<Buffers> allocate_buffers(const contract::Geometry& g, std::int64_t rows) {
  Buffers b;
  const auto doubles = [&](std::int64_t count) { return static_cast<std::size_t>(count) * sizeof(double); };
  const auto n = static_cast<std::size_t>(rows);
  struct Want {
    DeviceMemory* memory;
    std::size_t bytes;
  };
  const Want wants[] = {{&b.table, sizeof(CodeValues)},
                        {&b.tokens, n * sizeof(std::int64_t)},
                        {&b.tiles, n * sizeof(RowTile)},
                        {&b.flags, n},
                        {&b.hidden, doubles(rows * g.hidden)},
                        {&b.hidden_scales, doubles(rows * g.hidden_blocks())},
                        {&b.product, doubles(rows * 2 * g.intermediate)},
                        {&b.plain, doubles(rows * g.intermediate)},
                        {&b.ones, doubles(rows * g.intermediate_blocks())},
                        {&b.codes, doubles(rows * g.intermediate)},
                        {&b.codes_scales, doubles(rows * g.intermediate_blocks())},
                        {&b.out, doubles(rows * g.hidden)}};
  for (const Want& want : wants) {
    auto memory = allocate(want.bytes, "buffers of the oracle");
    if (!memory.ok()) return memory.status();
    *want.memory = std::move(memory).value();
  }
  return Result<Buffers>(std::move(b));
}

std::vector<RowTile> tiles_of(std::span<const ExpertRow> rows) {
  std::vector<RowTile> tiles;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    if (tiles.empty() || tiles.back().expert != rows[r].local_expert || tiles.back().count == kTile)
      tiles.push_back({rows[r].local_expert, static_cast<std::int32_t>(r), 0});
    ++tiles.back().count;
  }
  return tiles;
}

double* doubles_of(const DeviceMemory& memory) {
  return static_cast<double*>(memory.get());
}

// All stages for one part of the rows; writes the part's rows of `result`, which begin at `first`.
Status run_part(const contract::Geometry& g, const contract::Weights& weights, const contract::Activations& activations,
                std::span<const ExpertRow> rows, std::size_t first, const Buffers& b, ExpertRowProducts& result) {
  std::vector<std::int64_t> tokens;
  for (const ExpertRow& row : rows) tokens.push_back(row.token);
  const std::vector<RowTile> tiles = tiles_of(rows);
  BLOCKMOE_CUDA_TRY(
      cudaMemcpy(b.tokens.get(), tokens.data(), tokens.size() * sizeof(std::int64_t), cudaMemcpyHostToDevice));
  BLOCKMOE_CUDA_TRY(cudaMemcpy(b.tiles.get(), tiles.data(), tiles.size() * sizeof(RowTile), cudaMemcpyHostToDevice));
  BLOCKMOE_CUDA_TRY(cudaMemset(b.flags.get(), 0, rows.size()));

  const auto count = static_cast<unsigned>(rows.size());
  const auto* table = static_cast<const CodeValues*>(b.table.get());
  auto* flags = static_cast<std::uint8_t*>(b.flags.get());
  const auto product = [&](const Operand& a, const WeightTensor& w, double* out) {
    const dim3 grid(static_cast<unsigned>(w.columns / kTile), static_cast<unsigned>(tiles.size()));
    multiply<<<grid, kThreads>>>(a, w, static_cast<const RowTile*>(b.tiles.get()), table, out, flags);
  };
  const auto fetch = [&](std::vector<double>& to) {
    return cudaMemcpy(to.data() + first * static_cast<std::size_t>(g.hidden), b.out.get(),
                      rows.size() * static_cast<std::size_t>(g.hidden) * sizeof(double), cudaMemcpyDeviceToHost);
  };

  const WeightTensor w13{weights.w13, weights.w13_scale, 2 * g.intermediate, g.hidden};
  const WeightTensor w2{weights.w2, weights.w2_scale, g.hidden, g.intermediate};
  const dim3 inter_grid(count, static_cast<unsigned>(g.intermediate_blocks()));
  decode_hidden<<<count, 256>>>(
      activations.hidden, activations.hidden_pitch, activations.hidden_scale, activations.hidden_scale_pitch, g.hidden,
      static_cast<const std::int64_t*>(b.tokens.get()), table, doubles_of(b.hidden), doubles_of(b.hidden_scales));
  product({doubles_of(b.hidden), doubles_of(b.hidden_scales)}, w13, doubles_of(b.product));
  activate<<<inter_grid, kBlock>>>(doubles_of(b.product), g.intermediate, weights.up_row(g.intermediate),
                                   weights.gate_row(g.intermediate), doubles_of(b.plain), flags);
  requantise<<<inter_grid, kBlock>>>(doubles_of(b.plain), g.intermediate, doubles_of(b.codes),
                                     doubles_of(b.codes_scales));
  product({doubles_of(b.codes), doubles_of(b.codes_scales)}, w2, doubles_of(b.out));
  BLOCKMOE_CUDA_TRY(cudaGetLastError());
  BLOCKMOE_CUDA_TRY(fetch(result.requantised));
  product({doubles_of(b.plain), doubles_of(b.ones)}, w2, doubles_of(b.out));
  BLOCKMOE_CUDA_TRY(cudaGetLastError());
  BLOCKMOE_CUDA_TRY(fetch(result.plain));
  BLOCKMOE_CUDA_TRY(cudaMemcpy(result.out_of_range.data() + first, b.flags.get(), rows.size(), cudaMemcpyDeviceToHost));
  return {};
}

}  // namespace

Result<ExpertRowProducts> expert_rows_cuda(const contract::Geometry& geometry, const contract::Weights& weights,
                                           const contract::Activations& activations, std::span<const ExpertRow> rows) {
  ExpertRowProducts result;
  const std::size_t elements = rows.size() * static_cast<std::size_t>(geometry.hidden);
  result.requantised.resize(elements);
  result.plain.resize(elements);
  result.out_of_range.resize(rows.size());
  if (rows.empty()) return result;

  const std::int64_t part_rows = std::min<std::int64_t>(kPartRows, std::ssize(rows));
  auto buffers = allocate_buffers(geometry, part_rows);
  if (!buffers.ok()) return buffers.status();
  CodeValues table;
  std::copy(e4m3_values().begin(), e4m3_values().end(), table.value);
  BLOCKMOE_CUDA_TRY(cudaMemcpy(buffers.value().table.get(), &table, sizeof table, cudaMemcpyHostToDevice));
  fill<<<256, 256>>>(doubles_of(buffers.value().ones), part_rows * geometry.intermediate_blocks(), 1.0);
  BLOCKMOE_CUDA_TRY(cudaGetLastError());
  for (std::size_t first = 0; first < rows.size(); first += static_cast<std::size_t>(part_rows)) {
    const auto part = rows.subspan(first, std::min(static_cast<std::size_t>(part_rows), rows.size() - first));
    BLOCKMOE_TRY(run_part(geometry, weights, activations, part, first, buffers.value(), result));
  }
  return result;
}

}  // namespace blockmoe::verify
