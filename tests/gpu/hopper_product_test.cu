// gemm1 and gemm2 of kernels/hopper against FP64 on the device, every value of every row; the rows are given, not routed.
#include <cuda_fp16.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "contract/requantise.h"
#include "hopper/products.h"
#include "hopper/silu.cuh"
#include "hopper_device.h"
#include "stages/short_rows.cuh"

namespace blockmoe::test {
namespace {

using kernels::hopper::Config;
using kernels::hopper::Maps;
using kernels::hopper::Scratch;
using kernels::hopper::Width;
using kernels::plan::RowType;
using kernels::stages::Chunk;
using kernels::stages::Slab;

constexpr std::array<Width, 3> kWidths = {Width::narrow, Width::middle, Width::wide};

__device__ double decoded(std::uint8_t code) {
  return static_cast<double>(contract::e4m3_decode(code));
}

// sum over K of codes and scales, in FP64.
__device__ double dot(const std::uint8_t* x, const float* x_scale, std::int64_t x_scale_pitch, const std::uint8_t* w,
                      const float* w_scale, int k_blocks) {
  double sum = 0.0;
  for (int block = 0; block < k_blocks; ++block) {
    double partial = 0.0;
    for (int k = 0; k < 128; ++k) partial += decoded(x[block * 128 + k]) * decoded(w[block * 128 + k]);
    sum += partial * static_cast<double>(x_scale[block * x_scale_pitch]) * static_cast<double>(w_scale[block]);
  }
  return sum;
}

struct Reference {
  Slab slab;
  int hidden_blocks, intermediate_blocks;
  std::int64_t up_row, gate_row;
  const std::int32_t* row_expert;
  std::int32_t rows;
};

__global__ void reference_gemm1(Reference r, double* inter) {
  const auto& g = r.slab.geometry;
  const std::int64_t at = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (at >= r.rows * g.intermediate) return;
  const std::int64_t row = at / g.intermediate, i = at % g.intermediate;
  const std::int64_t token = r.slab.workspace.row_to_token[row], expert = r.row_expert[row];
  const auto& a = r.slab.activations;
  const auto& w = r.slab.weights;
  const int blocks = r.hidden_blocks;
  const auto product = [&](std::int64_t w_row) {
    const std::int64_t full_row = expert * 2 * g.intermediate + w_row;
    return dot(a.hidden + token * a.hidden_pitch, a.hidden_scale + token, a.hidden_scale_pitch,
               w.w13 + full_row * g.hidden, w.w13_scale + full_row / 128 * blocks, blocks);
  };
  const double up = product(r.up_row + i), gate = product(r.gate_row + i);
  inter[at] = gate / (1.0 + exp(-gate)) * up;
}

__global__ void reference_gemm2(Reference r, double* out) {
  const auto& g = r.slab.geometry;
  const std::int64_t at = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (at >= r.rows * g.hidden) return;
  const std::int64_t row = at / g.hidden, h = at % g.hidden;
  const std::int64_t full_row = static_cast<std::int64_t>(r.row_expert[row]) * g.hidden + h;
  const int blocks = r.intermediate_blocks;
  out[at] =
      dot(r.slab.workspace.inter + row * g.intermediate, r.slab.workspace.inter_scale + row, r.slab.sizes.row_capacity,
          r.slab.weights.w2 + full_row * g.intermediate, r.slab.weights.w2_scale + full_row / 128 * blocks, blocks);
}

// One layer's weights and some tokens on the device, and everything that a call's rows need.
class Layer {
 public:
  Layer(std::int64_t hidden, std::int64_t intermediate, int experts, int tokens, int capacity, int sms,
        std::uint32_t seed)
      : w13_(random_codes(static_cast<std::size_t>(experts * 2 * intermediate * hidden), seed)),
        w2_(random_codes(static_cast<std::size_t>(experts * hidden * intermediate), seed + 1)),
        w13_scale_(random_floats(static_cast<std::size_t>(experts * 2 * intermediate / 128 * hidden / 128), seed + 2)),
        w2_scale_(random_floats(static_cast<std::size_t>(experts * hidden / 128 * intermediate / 128), seed + 3)),
        hidden_(random_codes(static_cast<std::size_t>(tokens * (hidden + 16)), seed + 4)),
        hidden_scale_(random_floats(static_cast<std::size_t>((tokens + 3) * hidden / 128), seed + 5)),
        chunk_(1),
        expert_begin_(static_cast<std::size_t>(experts + 1)),
        row_to_token_(static_cast<std::size_t>(capacity + 8)),
        row_expert_(static_cast<std::size_t>(capacity)),
        inter_(static_cast<std::size_t>(capacity * intermediate)),
        inter_scale_(static_cast<std::size_t>(intermediate / 128 * capacity)),
        rows_(static_cast<std::size_t>(capacity * hidden)),
        row_exponent_(static_cast<std::size_t>(capacity * hidden / 16)),
        sums_(kernels::hopper::sum_bytes(sms, Width::wide) / sizeof(float4)),
        flags_(kernels::hopper::flag_bytes(sms, experts, 1) / sizeof(std::uint32_t)),
        tokens_(tokens) {
    slab_.geometry.hidden = hidden;
    slab_.geometry.intermediate = intermediate;
    slab_.geometry.local_experts = experts;
    slab_.weights.w13 = w13_.get();
    slab_.weights.w13_scale = w13_scale_.get();
    slab_.weights.w2 = w2_.get();
    slab_.weights.w2_scale = w2_scale_.get();
    slab_.activations.tokens = tokens;
    slab_.activations.hidden = hidden_.get();
    slab_.activations.hidden_pitch = hidden + 16;
    slab_.activations.hidden_scale = hidden_scale_.get();
    slab_.activations.hidden_scale_pitch = tokens + 3;
    slab_.workspace.chunks = chunk_.get();
    slab_.workspace.expert_begin = expert_begin_.get();
    slab_.workspace.row_to_token = row_to_token_.get();
    slab_.workspace.inter = inter_.get();
    slab_.workspace.inter_scale = inter_scale_.get();
    slab_.workspace.rows = rows_.get();
    slab_.workspace.row_exponent = row_exponent_.get();
    slab_.sizes.row_capacity = capacity;
    slab_.sizes.max_chunks = 1;
    slab_.sms = sms;
  }

  Slab& slab() { return slab_; }
  int rows() const { return rows_used_; }
  const DeviceArray<std::uint8_t>& w13() const { return w13_; }
  const DeviceArray<std::uint8_t>& w2() const { return w2_; }
  const DeviceArray<std::uint8_t>& hidden() const { return hidden_; }

  // Rows of each expert, tokens drawn at random.
  void route(const std::vector<int>& counts, std::uint32_t seed) {
    std::mt19937 engine(seed);
    std::vector<std::int32_t> begin(1, 0), expert_of;
    for (std::size_t e = 0; e < counts.size(); ++e) {
      begin.push_back(begin.back() + counts[e]);
      expert_of.insert(expert_of.end(), static_cast<std::size_t>(counts[e]), static_cast<std::int32_t>(e));
    }
    rows_used_ = begin.back();
    constexpr std::int32_t kRowBase = 5;
    token_of_.assign(static_cast<std::size_t>(rows_used_ + kRowBase), 0);
    for (auto& token : token_of_) token = static_cast<std::int32_t>(engine() % static_cast<std::uint32_t>(tokens_));
    const Chunk chunk{0, tokens_, rows_used_, kRowBase};
    copy(chunk_.get(), &chunk, sizeof chunk);
    copy(expert_begin_.get(), begin.data(), begin.size() * sizeof begin[0]);
    copy(row_to_token_.get(), token_of_.data(), token_of_.size() * sizeof token_of_[0]);
    copy(row_expert_.get(), expert_of.data(), expert_of.size() * sizeof(std::int32_t));
    row_base_ = kRowBase;
  }
  std::int32_t token_of(int row) const { return token_of_[static_cast<std::size_t>(row + row_base_)]; }

  // Both products, outputs poisoned before.
  void run(const Config& config, RowType row_type) {
    Maps maps;
    BLOCKMOE_CUDA_OK(kernels::hopper::prepare(config.width));
    BLOCKMOE_CUDA_OK(kernels::hopper::make_maps(slab_.geometry, slab_.weights, &maps));
    inter_.fill(0xff);
    inter_scale_.fill(0xff);
    rows_.fill(0xff);
    row_exponent_.fill(0xff);
    sums_.fill(0xff);
    flags_.fill(0);
    slab_.sizes.row_type = row_type;
    const Scratch scratch{sums_.get(), flags_.get()};
    BLOCKMOE_CUDA_OK(kernels::hopper::launch_products(slab_, 0, maps, scratch, config, nullptr));
    BLOCKMOE_CUDA_OK(cudaDeviceSynchronize());
  }

  std::vector<std::uint8_t> inter() const { return inter_.host(); }
  std::vector<float> inter_scale() const { return inter_scale_.host(); }
  std::vector<float> rows_f32() const { return rows_.host(); }

  std::vector<double> inter_expected() {
    const std::int64_t count = rows_used_ * slab_.geometry.intermediate;
    return reference(count, [&](const Reference& r, double* out) {
      reference_gemm1<<<static_cast<unsigned>((count + 127) / 128), 128>>>(r, out);
    });
  }
  // From the kernel's own codes and scales.
  std::vector<double> rows_expected() {
    const std::int64_t count = rows_used_ * slab_.geometry.hidden;
    return reference(count, [&](const Reference& r, double* out) {
      reference_gemm2<<<static_cast<unsigned>((count + 127) / 128), 128>>>(r, out);
    });
  }
  std::vector<double> rows_got(RowType type) const {
    const std::size_t count = static_cast<std::size_t>(rows_used_ * slab_.geometry.hidden);
    const std::vector<float> words = rows_.host();
    const std::vector<std::uint8_t> exponents = row_exponent_.host();
    std::vector<double> values(count);
    for (std::size_t i = 0; i < count; ++i) {
      if (type == RowType::f32) {
        values[i] = static_cast<double>(words[i]);
      } else {
        __half code;
        std::memcpy(&code, reinterpret_cast<const char*>(words.data()) + 2 * i, sizeof code);
        values[i] =
            std::ldexp(static_cast<double>(__half2float(code)), static_cast<int>(exponent_of(exponents, i)) - 141);
      }
    }
    return values;
  }

  // Of value i of the rows.
  std::int64_t exponent_of(const std::vector<std::uint8_t>& exponents, std::size_t i) const {
    const auto at = static_cast<std::int64_t>(i), hidden = slab_.geometry.hidden;
    return exponents[static_cast<std::size_t>(kernels::stages::place_of_exponent(hidden, at / hidden, at % hidden))];
  }

  // Every value of the last run; `where` tells the case in a failure.
  void check(RowType type, const std::string& where) {
    const std::vector<double> expected = inter_expected();
    const std::vector<std::uint8_t> codes = inter();
    const std::vector<float> scales = inter_scale();
    const std::int64_t width = slab_.geometry.intermediate, capacity = slab_.sizes.row_capacity;
    for (std::int64_t row = 0; row < rows_used_; ++row) {
      for (std::int64_t block = 0; block < width / 128; ++block) {
        const double* const value = &expected[static_cast<std::size_t>(row * width + block * 128)];
        double amax = 0.0;
        for (int i = 0; i < 128; ++i) amax = std::max(amax, std::abs(value[i]));
        const double scale = static_cast<double>(scales[static_cast<std::size_t>(block * capacity + row)]);
        ASSERT_NEAR(amax / 448.0, scale, 2e-3 * amax / 448.0) << where << ": row " << row << ", block " << block;
        for (int i = 0; i < 128; ++i) {
          const std::uint8_t code = codes[static_cast<std::size_t>(row * width + block * 128 + i)];
          const double got = static_cast<double>(contract::e4m3_decode(code)) * scale;
          // Half a step of e4m3, and what the tensor core's short accumulator leaves.
          const double step = std::max(std::abs(value[i]) / 16.0, scale / 1024.0);
          ASSERT_NEAR(value[i], got, step * 1.03 + 1e-3 * amax)
              << where << ": row " << row << ", column " << block * 128 + i;
        }
      }
    }
    const std::vector<double> sums = rows_expected(), got = rows_got(type);
    EXPECT_LT(relative_l2(got, sums), 5e-4) << where;
    for (std::size_t row = 0; row < static_cast<std::size_t>(rows_used_); ++row) {
      const auto h = static_cast<std::ptrdiff_t>(slab_.geometry.hidden);
      const auto at = static_cast<std::ptrdiff_t>(row) * h;
      const std::vector<double> a(got.begin() + at, got.begin() + at + h), b(sums.begin() + at, sums.begin() + at + h);
      ASSERT_LT(relative_l2(a, b), 2e-3) << where << ": row " << row;
    }
    check_untouched(type, where);
  }

  // Nothing is written for rows that are not there.
  void check_untouched(RowType type, const std::string& where) {
    const std::vector<std::uint8_t> codes = inter();
    const auto first_code = static_cast<std::size_t>(rows_used_ * slab_.geometry.intermediate);
    EXPECT_TRUE(std::all_of(codes.begin() + static_cast<std::ptrdiff_t>(first_code), codes.end(),
                            [](std::uint8_t code) { return code == 0xff; }))
        << where;
    const std::vector<float> out = rows_.host();
    const char* const bytes = reinterpret_cast<const char*>(out.data());
    const std::size_t value_bytes = type == RowType::f32 ? 4 : 2;
    const std::size_t first = static_cast<std::size_t>(rows_used_ * slab_.geometry.hidden) * value_bytes;
    EXPECT_TRUE(std::all_of(bytes + first, bytes + out.size() * sizeof(float), [](char byte) {
      return byte == '\xff';
    })) << where;
    const std::vector<std::uint8_t> exponents = row_exponent_.host();
    const std::int64_t written = type == RowType::f32 ? 0 : rows_used_ * slab_.geometry.hidden / 16;
    for (std::int64_t i = written; i < static_cast<std::int64_t>(exponents.size()); ++i) {
      ASSERT_EQ(0xff, exponents[static_cast<std::size_t>(i)]) << where << ": exponent " << i;
    }
  }

 private:
  static void copy(void* to, const void* from, std::size_t bytes) {
    EXPECT_EQ(cudaSuccess, cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice));
  }
  template <class Launch>
  std::vector<double> reference(std::int64_t count, Launch&& launch) {
    if (count == 0) return {};
    const DeviceArray<double> out(static_cast<std::size_t>(count));
    const auto& g = slab_.geometry;
    Reference r{slab_,
                static_cast<int>(g.hidden_blocks()),
                static_cast<int>(g.intermediate_blocks()),
                slab_.weights.up_row(g.intermediate),
                slab_.weights.gate_row(g.intermediate),
                row_expert_.get(),
                rows_used_};
    r.slab.workspace.row_to_token += row_base_;
    launch(r, out.get());
    EXPECT_EQ(cudaSuccess, cudaDeviceSynchronize());
    return out.host();
  }

  DeviceArray<std::uint8_t> w13_, w2_;
  DeviceArray<float> w13_scale_, w2_scale_;
  DeviceArray<std::uint8_t> hidden_;
  DeviceArray<float> hidden_scale_;
  DeviceArray<Chunk> chunk_;
  DeviceArray<std::int32_t> expert_begin_, row_to_token_, row_expert_;
  DeviceArray<std::uint8_t> inter_;
  DeviceArray<float> inter_scale_;
  DeviceArray<float> rows_;
  DeviceArray<std::uint8_t> row_exponent_;
  DeviceArray<float4> sums_;
  DeviceArray<std::uint32_t> flags_;
  std::vector<std::int32_t> token_of_;
  Slab slab_;
  int tokens_;
  int rows_used_ = 0;
  std::int32_t row_base_ = 0;
};

std::string text(const char* what, int value, Width width) {
  return std::string(what) + " " + std::to_string(value) + ", width " + std::to_string(static_cast<int>(width));
}

class HopperProducts : public HopperTest {};

TEST_F(HopperProducts, every_row_count_of_one_expert_from_1_to_300) {
  Layer layer(256, 128, 3, 64, 320, properties_.multiProcessorCount, 11);
  for (int rows = 1; rows <= 300; ++rows) {
    layer.route({0, rows, 0}, static_cast<std::uint32_t>(rows));
    for (const Width width : kWidths) {
      const RowType type = rows % 2 == 0 ? RowType::f16 : RowType::f32;
      layer.run({width, 4, rows % 2 == 0, rows % 3 == 0}, type);
      layer.check(type, text("rows", rows, width));
      if (HasFailure()) return;
    }
  }
}

TEST_F(HopperProducts, random_rows_of_many_experts) {
  Layer layer(512, 384, 16, 100, 2400, properties_.multiProcessorCount, 21);
  std::mt19937 engine(22);
  for (int round = 0; round < 60; ++round) {
    std::vector<int> counts(16);
    const std::uint32_t most = round % 3 == 0 ? 8 : round % 3 == 1 ? 40 : 150;
    for (int& count : counts) count = engine() % 4 == 0 ? 0 : static_cast<int>(engine() % most);
    layer.route(counts, static_cast<std::uint32_t>(round));
    const Width width = kWidths[static_cast<std::size_t>(round / 3) % 3];
    const RowType type = round % 2 == 0 ? RowType::f32 : RowType::f16;
    layer.run({width, 1 + round % 8, round / 8 % 2 == 0}, type);
    layer.check(type, text("round", round, width));
    if (HasFailure()) return;
  }
}

TEST_F(HopperProducts, tiles_shared_by_any_number_of_multiprocessors) {
  for (const int sms : {1, 2, 37, 100, 132}) {
    Layer layer(1024, 256, 4, 50, 320, sms, 31);
    layer.route({3, 0, 70, 200}, 32);
    for (const Width width : kWidths) {
      layer.run({width, 8, true}, RowType::f32);
      layer.check(RowType::f32, text("multiprocessors", sms, width));
      if (HasFailure()) return;
    }
  }
}

// With FP8 products the codes of the two would differ by 0.003 and more: a few of them by a whole step.
TEST_F(HopperProducts, a_narrow_gemm1_gives_the_codes_of_exact_products) {
  Layer layer(7168, 256, 3, 40, 64, properties_.multiProcessorCount, 35);
  const std::int64_t width = 256, capacity = 64;
  for (const int rows : {1, 8, 13, 24, 30}) {
    layer.route({rows, 0, 1}, static_cast<std::uint32_t>(36 + rows));
    layer.run({Width::narrow, 4, true}, RowType::f32);
    const std::vector<double> values = layer.inter_expected();
    const std::vector<std::uint8_t> codes = layer.inter();
    const std::vector<float> scales = layer.inter_scale();
    std::vector<double> got, expected;
    for (std::int64_t row = 0; row < layer.rows(); ++row) {
      for (std::int64_t block = 0; block < width / 128; ++block) {
        const auto first = static_cast<std::size_t>(row * width + block * 128);
        float amax = 0.0f;
        for (std::size_t i = first; i < first + 128; ++i) {
          amax = contract::amax_step(amax, static_cast<float>(values[i]));
        }
        const contract::BlockScale scale = contract::block_scale(amax);
        const float got_scale = scales[static_cast<std::size_t>(block * capacity + row)];
        EXPECT_NEAR(scale.scale, got_scale, 2e-5f * scale.scale) << "rows " << rows << ", row " << row;
        for (std::size_t i = first; i < first + 128; ++i) {
          const std::uint8_t code = contract::requantise(static_cast<float>(values[i]), scale.inverse);
          expected.push_back(static_cast<double>(contract::e4m3_decode(code)) * static_cast<double>(scale.scale));
          got.push_back(static_cast<double>(contract::e4m3_decode(codes[i])) * static_cast<double>(got_scale));
        }
      }
    }
    EXPECT_LT(relative_l2(got, expected), 1.5e-3) << "rows " << rows;
  }
}

TEST_F(HopperProducts, geometries_from_128_up) {
  const std::array<std::array<int, 2>, 6> sizes = {
      {{128, 128}, {128, 256}, {256, 128}, {384, 640}, {640, 384}, {7168, 2048}}};
  for (const auto& size : sizes) {
    Layer layer(size[0], size[1], 2, 40, 96, properties_.multiProcessorCount, 41);
    layer.route({61, 9}, 42);
    for (const Width width : kWidths) {
      for (const RowType type : {RowType::f32, RowType::f16}) {
        layer.run({width, 4, true}, type);
        layer.check(type, text("hidden", size[0], width));
        if (HasFailure()) return;
      }
    }
  }
}

TEST_F(HopperProducts, gate_rows_may_come_first) {
  Layer layer(256, 256, 2, 40, 64, properties_.multiProcessorCount, 51);
  layer.slab().weights.gate_first = true;
  layer.route({17, 30}, 52);
  layer.run({Width::middle, 4, true}, RowType::f32);
  layer.check(RowType::f32, "gate first");
}

TEST_F(HopperProducts, no_rows_write_nothing) {
  Layer layer(256, 128, 3, 8, 32, properties_.multiProcessorCount, 61);
  layer.route({0, 0, 0}, 62);
  for (const Width width : kWidths) {
    layer.run({width, 4, true}, RowType::f32);
    layer.check_untouched(RowType::f32, text("rows", 0, width));
  }
}

TEST_F(HopperProducts, a_nan_stays_in_its_row_and_in_its_expert) {
  Layer layer(256, 256, 3, 200, 128, properties_.multiProcessorCount, 71);
  layer.route({20, 21, 40}, 72);
  constexpr std::int64_t kBadExpert = 1;
  const auto bytes_of = [](const std::vector<float>& v, std::size_t first, std::size_t count) {
    std::vector<std::uint32_t> bits(count);
    std::memcpy(bits.data(), v.data() + first, count * sizeof(float));
    return bits;
  };
  const std::size_t pitch = 256 + 16;
  const std::vector<std::uint8_t> before = layer.hidden().host(), w13 = layer.w13().host(), w2 = layer.w2().host();
  for (const Width width : kWidths) {
    layer.run({width, 4, true}, RowType::f32);
    const std::vector<float> clean = layer.rows_f32();
    for (const int bad_row : {0, 7}) {  // of expert 0; the first row stands in the columns beyond a tile's rows too
      const std::int32_t bad_token = layer.token_of(bad_row);
      BLOCKMOE_CUDA_OK(cudaMemset(layer.hidden().get() + static_cast<std::size_t>(bad_token) * pitch, 0x7f, 256));
      BLOCKMOE_CUDA_OK(cudaMemset(layer.w13().get() + kBadExpert * 2 * 256 * 256, 0x7f, 2 * 256 * 256));
      BLOCKMOE_CUDA_OK(cudaMemset(layer.w2().get() + kBadExpert * 256 * 256, 0xff, 256 * 256));
      layer.run({width, 4, true}, RowType::f32);
      const std::vector<float> dirty = layer.rows_f32();
      for (int row = 0; row < layer.rows(); ++row) {
        const auto first = static_cast<std::size_t>(row) * 256;
        const bool bad = layer.token_of(row) == bad_token || (row >= 20 && row < 41);
        if (bad) {
          for (std::size_t h = 0; h < 256; ++h) ASSERT_TRUE(std::isnan(dirty[first + h])) << text("row", row, width);
        } else {
          ASSERT_EQ(bytes_of(clean, first, 256), bytes_of(dirty, first, 256)) << text("row", row, width);
        }
      }
      BLOCKMOE_CUDA_OK(cudaMemcpy(layer.hidden().get(), before.data(), before.size(), cudaMemcpyHostToDevice));
      BLOCKMOE_CUDA_OK(cudaMemcpy(layer.w13().get(), w13.data(), w13.size(), cudaMemcpyHostToDevice));
      BLOCKMOE_CUDA_OK(cudaMemcpy(layer.w2().get(), w2.data(), w2.size(), cudaMemcpyHostToDevice));
    }
  }
}

TEST_F(HopperProducts, rows_come_from_any_token_of_a_slab) {
  Layer layer(256, 128, 2, static_cast<int>(kernels::plan::kMaxSlabTokens), 320, properties_.multiProcessorCount, 91);
  layer.route({100, 200}, 92);
  for (const Width width : kWidths) {
    layer.run({width, 4, true}, RowType::f32);
    layer.check(RowType::f32, text("tokens", static_cast<int>(kernels::plan::kMaxSlabTokens), width));
    if (HasFailure()) return;
  }
}

TEST_F(HopperProducts, same_inputs_give_the_same_bits) {
  Layer layer(1024, 384, 5, 64, 256, properties_.multiProcessorCount, 81);
  layer.route({3, 0, 70, 100, 9}, 82);
  for (const Width width : kWidths) {
    layer.run({width, 8, true}, RowType::f32);
    const std::vector<float> first = layer.rows_f32();
    for (int round = 0; round < 50; ++round) {
      layer.run({width, 8, true}, RowType::f32);
      const std::vector<float> again = layer.rows_f32();
      ASSERT_EQ(0, std::memcmp(first.data(), again.data(), first.size() * sizeof(float)))
          << text("round", round, width);
    }
  }
}

__global__ void worst_silu(double* ulps, double* absolute) {
  double worst_ulps = 0.0, worst_absolute = 0.0;
  const std::uint64_t threads = static_cast<std::uint64_t>(gridDim.x) * blockDim.x;
  for (std::uint64_t bits = static_cast<std::uint64_t>(blockIdx.x) * blockDim.x + threadIdx.x; bits < (1ull << 32);
       bits += threads) {
    const float x = __uint_as_float(static_cast<std::uint32_t>(bits));
    if (!(fabsf(x) < 3.4e38f)) continue;
    const double exact = static_cast<double>(x) / (1.0 + exp(-static_cast<double>(x)));
    const double error = fabs(static_cast<double>(kernels::hopper::silu(x)) - exact);
    if (x >= -87.0f) {
      const float magnitude = fmaxf(fabsf(static_cast<float>(exact)), 1.17549435e-38f);
      const double ulp =
          static_cast<double>(__uint_as_float(__float_as_uint(magnitude) + 1)) - static_cast<double>(magnitude);
      worst_ulps = fmax(worst_ulps, error / ulp);
    } else {
      worst_absolute = fmax(worst_absolute, error);
    }
  }
  const std::uint64_t at = static_cast<std::uint64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  ulps[at] = worst_ulps;
  absolute[at] = worst_absolute;
}

__global__ void silu_of(const float* x, float* y) {
  y[threadIdx.x] = kernels::hopper::silu(x[threadIdx.x]);
}

class HopperSilu : public HopperTest {};

TEST_F(HopperSilu, every_float_within_5_ulp_from_minus_87_and_within_1e_36_below) {
  const DeviceArray<double> ulps(1024 * 256), absolute(1024 * 256);
  worst_silu<<<1024, 256>>>(ulps.get(), absolute.get());
  BLOCKMOE_CUDA_OK(cudaDeviceSynchronize());
  const std::vector<double> u = ulps.host(), a = absolute.host();
  const double worst_ulps = *std::max_element(u.begin(), u.end()),
               worst_absolute = *std::max_element(a.begin(), a.end());
  RecordProperty("worst_ulps", std::to_string(worst_ulps));
  EXPECT_LE(worst_ulps, 5.0);
  EXPECT_LT(worst_absolute, 1e-36);
}

TEST_F(HopperSilu, infinities_and_nan) {
  const DeviceArray<float> x(std::vector<float>{INFINITY, -INFINITY, NAN}), y(3);
  silu_of<<<1, 3>>>(x.get(), y.get());
  BLOCKMOE_CUDA_OK(cudaDeviceSynchronize());
  const std::vector<float> got = y.host();
  EXPECT_EQ(INFINITY, got[0]);
  EXPECT_TRUE(std::isnan(got[1]));
  EXPECT_TRUE(std::isnan(got[2]));
}

}  // namespace
}  // namespace blockmoe::test
