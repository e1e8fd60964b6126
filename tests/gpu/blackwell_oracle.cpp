// blackwell_oracle.cpp: see blackwell_oracle.hpp.
#include "blackwell_oracle.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>

#include "contract/e4m3.h"
#include "contract/exp.h"
#include "contract/requantise.h"

namespace blockmoe::test {
namespace {

namespace plan = kernels::plan;
namespace blackwell = kernels::blackwell;
using plan::Implementation;
using plan::Product;

std::int32_t round_up(std::int32_t a, std::int32_t multiple) {
  return (a + multiple - 1) / multiple * multiple;
}

std::vector<std::int32_t> padded_begin(const std::vector<std::int32_t>& counts, std::int32_t padding) {
  std::vector<std::int32_t> begin = {0};
  for (const std::int32_t count : counts) begin.push_back(begin.back() + round_up(count, padding));
  return begin;
}

// The original's branches, in its own words.
Implementation expected_choice(const plan::ImplementationRule& rule, Product product, std::int64_t T,
                               std::int64_t rows) {
  if (rule.policy == kernels::Policy::reference_b200) {
    if (product == Product::gemm1) {
      if (!rule.trtllm_there || !rule.switches.trtllm_gemm1) return Implementation::cutlass;
      if (rows == 0 || T == 7) return Implementation::cutlass;
      if (rows <= 128) return Implementation::trtllm;
      if (T <= 80) return Implementation::trtllm;
      return T >= 901 && T < 10000 ? Implementation::trtllm : Implementation::cutlass;
    }
    const std::int64_t mma = rule.switches.mma_gemm2_rows;
    if (mma != 0 && rows > mma) return Implementation::mma;
    if (!rule.trtllm_there || !rule.switches.trtllm_gemm2 || rows == 0) return Implementation::cutlass;
    return rows > rule.switches.trtllm_gemm2_most_rows ? Implementation::cutlass : Implementation::trtllm;
  }
  return rule.policy == kernels::Policy::trtllm && rule.trtllm_there ? Implementation::trtllm : Implementation::cutlass;
}

std::int32_t expected_tile(const plan::TileTable& tiles, std::int64_t chunk_rows, std::int64_t expert_rows) {
  const std::int64_t rows = tiles.by_expert ? expert_rows : chunk_rows;
  for (std::int32_t i = 0; i + 1 < tiles.count; ++i) {
    if (rows <= tiles.rows[i].most_rows) return i;
  }
  return tiles.count - 1;
}

template <typename T>
bool same_bytes(const T& a, const T& b) {
  return std::memcmp(&a, &b, sizeof(T)) == 0;
}

void expect_product(const ArgumentCase& c, Product product, const blackwell::ProductCall& call,
                    const blackwell::ProductTables& t, const std::vector<std::int32_t>& begin) {
  const std::int64_t rows = c.packed.chunk.rows;
  const Implementation chosen = expected_choice(c.rule, product, c.tokens, rows);
  const std::int32_t all = begin.back();
  const auto N = static_cast<std::int32_t>(product == Product::gemm1 ? 2 * c.geometry.intermediate : c.geometry.hidden);
  const auto K = static_cast<std::int32_t>(product == Product::gemm1 ? c.geometry.hidden : c.geometry.intermediate);
  const bool f32 =
      chosen != Implementation::trtllm && (product == Product::gemm1 || c.gemm2_type == plan::RowType::f32);
  const std::int32_t pitch = chosen == Implementation::mma ? static_cast<std::int32_t>(c.row_capacity()) : all;
  ASSERT_EQ(t.rows[0], f32 ? all : 0);
  ASSERT_EQ(t.rows[1], f32 ? 0 : all);
  ASSERT_EQ(t.scale_pitch[0], pitch);
  for (std::size_t e = 0; e < c.packed.counts.size(); ++e) {
    SCOPED_TRACE("expert " + std::to_string(e));
    const std::int32_t count = c.packed.counts[e];
    for (const Implementation i : {Implementation::cutlass, Implementation::trtllm, Implementation::mma}) {
      ASSERT_EQ(t.row_count[static_cast<std::size_t>(i)][e], i == chosen ? count : 0);
    }
    for (std::int32_t i = 0; i < c.tiles.count; ++i) {
      const bool works = chosen == Implementation::cutlass && i == expected_tile(c.tiles, rows, count);
      const std::int32_t m = works ? count : 0;
      const bool swapped = c.tiles.rows[i].tile == plan::BlackwellTile::swapped_m128n16 ||
                           c.tiles.rows[i].tile == plan::BlackwellTile::swapped_m128n32;
      const auto expected = swapped ? blackwell::GroupShape{N, m, K} : blackwell::GroupShape{m, N, K};
      ASSERT_TRUE(same_bytes(t.shapes[i][e], expected)) << "tile " << i;
    }
    const auto expert = static_cast<std::int64_t>(e);
    const std::int64_t element = call.output_type == plan::RowType::f32 ? 4 : 2;
    ASSERT_EQ(t.activations[e], call.rows + std::int64_t{begin[e]} * K);
    ASSERT_EQ(t.weights[e], call.weights + expert * N * K);
    ASSERT_EQ(t.outputs[e], static_cast<char*>(call.output) + std::int64_t{begin[e]} * N * element);
    ASSERT_EQ(t.activation_scales[e], call.row_scale + begin[e]);
    ASSERT_EQ(t.weight_scales[e], call.weight_scale + expert * (N / 128) * (K / 128));
    ASSERT_EQ(t.activation_strides[e], K);
    ASSERT_EQ(t.weight_strides[e], K);
    ASSERT_EQ(t.output_strides[e], N);
    ASSERT_TRUE(same_bytes(t.activation_scale_layouts[e], blackwell::ScaleLayout{count, K / 128, 1, pitch, 0}));
    ASSERT_TRUE(same_bytes(t.weight_scale_layouts[e], blackwell::ScaleLayout{N / 128, K / 128, 1, K / 128, 0}));
    // What CUTLASS reads by four must stand by four.
    ASSERT_EQ(begin[e] % 4, 0);
    ASSERT_EQ(pitch % 4, 0);
  }
}

// Distinct addresses that nobody reads.
template <typename T>
const T* address(std::uintptr_t number) {
  return reinterpret_cast<const T*>(std::uintptr_t{1} << 44 | number << 40);
}

bool is_poison(float x) {
  return contract::bits_of(x) == contract::bits_of(poison());
}

std::vector<std::uint32_t> bits_of(const std::vector<float>& values) {
  std::vector<std::uint32_t> bits;
  bits.reserve(values.size());
  for (const float x : values) bits.push_back(contract::bits_of(x));
  return bits;
}

}  // namespace

float poison() {
  return contract::float_of(0xffffffffU);
}

PackedChunk packed_chunk(const std::vector<std::int32_t>& counts, std::int32_t token_begin) {
  const auto experts = static_cast<std::int32_t>(counts.size());
  PackedChunk p;
  p.counts = counts;
  const std::int32_t all = std::accumulate(counts.begin(), counts.end(), 0);
  // So many that no token has more picks than the contract allows.
  const std::int32_t in_chunk = std::max({*std::max_element(counts.begin(), counts.end()), all / 16, 3});
  p.tokens = token_begin + in_chunk + 2;  // two behind the chunk are another's
  p.chunk.token_begin = token_begin;
  p.chunk.token_end = token_begin + in_chunk;
  std::vector<std::vector<std::int32_t>> experts_of(static_cast<std::size_t>(in_chunk));
  p.expert_begin = {0};
  for (std::int32_t e = 0; e < experts; ++e) {
    // Each expert's tokens begin where the last one's ended, and a token's picks stand in no order of experts.
    for (std::int32_t i = 0; i < counts[static_cast<std::size_t>(e)]; ++i) {
      auto& picked = experts_of[static_cast<std::size_t>((p.expert_begin.back() + i) % in_chunk)];
      picked.insert(e % 2 == 0 ? picked.begin() : picked.end(), e);
    }
    p.expert_begin.push_back(p.expert_begin.back() + counts[static_cast<std::size_t>(e)]);
  }
  p.chunk.rows = p.expert_begin.back();
  for (const auto& picked : experts_of) p.picks = std::max(p.picks, static_cast<std::int32_t>(picked.size()));
  p.pick_expert.assign(static_cast<std::size_t>(std::int64_t{p.tokens} * p.picks), -1);
  p.pick_row = p.pick_expert;
  std::vector<std::int32_t> next = p.expert_begin;
  for (std::int32_t t = 0; t < in_chunk; ++t) {
    const auto& picked = experts_of[static_cast<std::size_t>(t)];
    for (std::size_t j = 0; j < picked.size(); ++j) {
      const auto slot = static_cast<std::size_t>(std::int64_t{token_begin + t} * p.picks) + j;
      p.pick_expert[slot] = picked[j];
      p.pick_row[slot] = next[static_cast<std::size_t>(picked[j])]++;
    }
  }
  return p;
}

std::vector<std::vector<std::int32_t>> count_patterns() {
  std::vector<std::vector<std::int32_t>> patterns = {{0}, {1}, {129}};
  for (const std::size_t experts : {3U, 32U, 33U, 257U}) {
    const std::vector<std::int32_t> none(experts, 0);
    patterns.push_back(none);
    patterns.emplace_back(experts, 1);
    for (const std::int32_t all : {1, 3, 4, 5, 128, 129, 300}) {
      for (const std::size_t expert : {std::size_t{0}, experts / 2, experts - 1}) {
        patterns.push_back(none);
        patterns.back()[expert] = all;
      }
    }
    std::mt19937 random(static_cast<std::uint32_t>(experts));
    for (const std::uint32_t most : {2U, 5U, 40U}) {
      patterns.push_back(none);
      for (std::int32_t& count : patterns.back())
        count = random() % 3 == 0 ? 0 : static_cast<std::int32_t>(random() % most);
    }
  }
  return patterns;
}

std::string described(const std::vector<std::int32_t>& counts) {
  std::string text = std::to_string(counts.size()) + " experts:";
  for (std::size_t e = 0; e < std::min<std::size_t>(counts.size(), 40); ++e) text += " " + std::to_string(counts[e]);
  return text;
}

plan::Sizes ArgumentCase::sizes() const {
  plan::Sizes s;
  s.picks = packed.picks;
  s.slab_capacity = packed.tokens;
  s.row_capacity = round_up(packed.chunk.rows, 16) + 16;
  s.row_type = gemm2_type;
  return s;
}

std::int64_t ArgumentCase::row_capacity() const {
  return blackwell::padded_capacity(geometry, sizes(), row_padding);
}

std::vector<blackwell::ProductCall> ArgumentCase::products(const blackwell::Workspace& w) const {
  std::vector<blackwell::ProductCall> calls(2);
  for (const Product product : {Product::gemm1, Product::gemm2}) {
    const bool gemm1 = product == Product::gemm1;
    blackwell::ProductCall& call = calls[static_cast<std::size_t>(product)];
    call.product = product;
    call.experts = geometry.local_experts;
    call.columns = gemm1 ? 2 * geometry.intermediate : geometry.hidden;
    call.depth = gemm1 ? geometry.hidden : geometry.intermediate;
    call.tokens = tokens;
    call.row_capacity = row_capacity();
    call.row_padding = row_padding;
    call.rows = gemm1 ? w.hidden : w.inter;
    call.row_scale = gemm1 ? w.hidden_scale : w.inter_scale;
    call.weights = address<std::uint8_t>(gemm1 ? 1 : 2);
    call.weight_scale = address<float>(gemm1 ? 3 : 4);
    call.output = gemm1 ? w.gate_up : w.rows;
    call.output_type = gemm1 ? plan::RowType::f32 : gemm2_type;
    call.tiles = tiles;
  }
  return calls;
}

std::vector<ArgumentCase> argument_cases(const std::vector<std::int32_t>& counts, std::uint32_t number) {
  using kernels::Policy;
  constexpr std::int64_t kTokens[] = {1, 7, 80, 81, 900, 901, 9999, 10000};
  constexpr std::int32_t kPaddings[] = {4, 8, 64, 128};
  const contract::Geometry model;
  std::vector<ArgumentCase> cases;
  for (const Policy policy : {Policy::automatic, Policy::reference_b200, Policy::cutlass, Policy::trtllm}) {
    ArgumentCase c;
    c.geometry = number % 2 == 0 ? contract::Geometry{256, 384, 0, 0, 1, 1, 1} : model;
    c.geometry.local_experts = static_cast<std::int32_t>(counts.size());
    c.packed = packed_chunk(counts, static_cast<std::int32_t>(number % 3));
    c.row_padding = kPaddings[number / 3 % 4];
    c.tokens = kTokens[number % 8];
    c.rule.policy = policy;
    c.rule.trtllm_there = number % 5 != 0;
    if (policy == Policy::reference_b200) {
      c.rule.switches.mma_gemm2_rows = number % 7 == 1 ? 2 : 0;
      c.rule.switches.trtllm_gemm2_most_rows = number % 7 == 2 ? 3 : 20'000;
      c.rule.switches.trtllm_gemm1 = number % 7 != 3;
      c.rule.switches.trtllm_gemm2 = number % 7 != 4;
    }
    c.tiles = plan::blackwell_tiles(policy, model, 1 << number % 15).tiles;
    c.gemm2_type = number % 3 == 0 ? plan::RowType::f32 : plan::RowType::bf16;
    cases.push_back(c);
    ++number;
  }
  return cases;
}

void expect_arguments(const ArgumentCase& c, const blackwell::Workspace& workspace,
                      const blackwell::Workspace& tables) {
  const std::vector<std::int32_t> begin = padded_begin(c.packed.counts, c.row_padding);
  ASSERT_LE(begin.back(), c.row_capacity());
  const bool mma = expected_choice(c.rule, Product::gemm2, c.tokens, c.packed.chunk.rows) == Implementation::mma;
  for (std::size_t e = 0; e < begin.size(); ++e) {
    ASSERT_EQ(tables.row_begin[e], begin[e]) << "expert " << e;
    ASSERT_EQ(tables.mma_begin[e], mma ? begin[e] : 0) << "expert " << e;
  }
  const auto calls = c.products(workspace);
  for (const Product product : {Product::gemm1, Product::gemm2}) {
    SCOPED_TRACE(product == Product::gemm1 ? "gemm1" : "gemm2");
    const auto i = static_cast<std::size_t>(product);
    expect_product(c, product, calls[i], tables.tables[i], begin);
  }
}

GatherCase::GatherCase(const std::vector<std::int32_t>& counts, std::int32_t padding, std::uint32_t seed)
    : packed(packed_chunk(counts, static_cast<std::int32_t>(seed % 4))), row_padding(padding) {
  // Up to 1152 columns: more vectors than a CTA of 256 has threads are 4096 columns and more.
  geometry = {seed % 7 == 0 ? std::int64_t{4224} : std::int64_t{128} * (1 + seed % 5), 128, 0, 0, 1, 1, 1};
  geometry.local_experts = static_cast<std::int32_t>(counts.size());
  hidden_pitch = geometry.hidden + 16 * (seed % 3);
  scale_pitch = packed.tokens + std::int64_t{seed % 5};
  std::mt19937 random(seed);
  hidden.resize(static_cast<std::size_t>(packed.tokens * hidden_pitch));
  for (std::uint8_t& code : hidden) code = static_cast<std::uint8_t>(random());
  hidden_scale.resize(static_cast<std::size_t>(geometry.hidden_blocks() * scale_pitch));
  for (float& scale : hidden_scale) scale = static_cast<float>(random() % 1000) - 500.0F;
  row_begin = padded_begin(counts, row_padding);
  gathered_pitch = row_begin.back() + 4 * static_cast<std::int32_t>(seed % 2);
}

void GatherCase::expect(const std::vector<std::uint8_t>& gathered, const std::vector<float>& gathered_scale,
                        const std::vector<std::int32_t>& padded_row) const {
  const auto H = static_cast<std::size_t>(geometry.hidden);
  std::vector<std::uint8_t> rows(gathered.size(), 0xff);
  std::vector<float> scales(gathered_scale.size(), poison());
  std::vector<std::int32_t> padded(padded_row.size(), -1);  // as poison is, beyond the chunk's tokens
  for (std::int32_t t = packed.chunk.token_begin; t < packed.chunk.token_end; ++t) {
    for (std::int32_t j = 0; j < packed.picks; ++j) {
      const auto slot = static_cast<std::size_t>(std::int64_t{t} * packed.picks + j);
      if (packed.pick_row[slot] < 0) continue;
      const auto e = static_cast<std::size_t>(packed.pick_expert[slot]);
      const std::int32_t row = row_begin[e] + packed.pick_row[slot] - packed.expert_begin[e];
      padded[slot] = row;
      std::memcpy(&rows[static_cast<std::size_t>(row) * H], &hidden[static_cast<std::size_t>(t * hidden_pitch)], H);
      for (std::int64_t b = 0; b < geometry.hidden_blocks(); ++b) {
        scales[static_cast<std::size_t>(b * gathered_pitch + row)] =
            hidden_scale[static_cast<std::size_t>(b * scale_pitch + t)];
      }
    }
  }
  EXPECT_EQ(padded, padded_row);
  EXPECT_EQ(rows, gathered);
  EXPECT_EQ(bits_of(scales), bits_of(gathered_scale));
}

SwigluCase::SwigluCase(std::int64_t rows_, std::int64_t intermediate_, bool gate_first_, std::uint32_t seed)
    : rows(rows_),
      capacity(rows_ + 3),
      scale_pitch(rows_ + seed % 3),
      intermediate(intermediate_),
      gate_first(gate_first_) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  gate_up.assign(static_cast<std::size_t>(capacity * 2 * intermediate), poison());
  for (std::int64_t i = 0; i < rows * 2 * intermediate; ++i) {
    // A row's size differs from block to block; some blocks are 0, tiny, NaN or infinite in places.
    const std::uint32_t kind = static_cast<std::uint32_t>(i / 128) * 2654435761U % 11;
    float x = normal(random) * std::ldexp(1.0F, static_cast<int>(kind * 9) - 40);
    if (kind == 0) x = 0.0F;
    if (kind == 1 && random() % 50 == 0) x = std::nanf("");
    if (kind == 2 && random() % 50 == 0) x = INFINITY;
    gate_up[static_cast<std::size_t>(i)] = x;
  }
}

std::vector<std::uint16_t> SwigluCase::in_bf16() const {
  std::vector<std::uint16_t> narrow;
  narrow.reserve(gate_up.size());
  for (const float x : gate_up) narrow.push_back(contract::bf16_encode(x));
  return narrow;
}

void SwigluCase::expect(plan::RowType type, const std::vector<std::uint8_t>& inter,
                        const std::vector<float>& inter_scale) const {
  const auto value = [&](std::int64_t row, std::int64_t column) {
    const float x = gate_up[static_cast<std::size_t>(row * 2 * intermediate + column)];
    return type == plan::RowType::f32 ? x : contract::bf16_decode(contract::bf16_encode(x));
  };
  for (std::int64_t row = 0; row < capacity; ++row) {
    for (std::int64_t block = 0; block < intermediate / 128; ++block) {
      SCOPED_TRACE("row " + std::to_string(row) + " block " + std::to_string(block));
      std::vector<float> products;
      float amax = 0.0F;
      for (std::int64_t c = block * 128; c < (block + 1) * 128; ++c) {
        const float up = value(row, c + (gate_first ? intermediate : 0));
        const float gate = value(row, c + (gate_first ? 0 : intermediate));
        products.push_back(contract::rn::mul(contract::silu(gate), up));
        amax = contract::amax_step(amax, products.back());
      }
      const contract::BlockScale scale = contract::block_scale(amax);
      const auto first = static_cast<std::size_t>(row * intermediate + block * 128);
      for (std::size_t c = 0; c < 128; ++c) {
        const std::uint8_t code = row < rows ? contract::requantise(products[c], scale.inverse) : std::uint8_t{0xff};
        ASSERT_EQ(code, inter[first + c]) << "column " << c;
      }
      if (row >= rows) continue;
      const float found = inter_scale[static_cast<std::size_t>(block * scale_pitch + row)];
      ASSERT_EQ(contract::bits_of(scale.scale), contract::bits_of(found)) << scale.scale << ", found " << found;
    }
  }
  for (std::int64_t block = 0; block < intermediate / 128; ++block) {
    for (std::int64_t row = rows; row < scale_pitch; ++row) {
      ASSERT_TRUE(is_poison(inter_scale[static_cast<std::size_t>(block * scale_pitch + row)]));
    }
  }
}

}  // namespace blockmoe::test
