// cpu_products_test.cpp: each path's block product alone, against sums in FP64.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "contract/e4m3.h"
#include "cpu/products/products.hpp"
#include "cpu_call.hpp"

namespace blockmoe::test {
namespace {

using cpu::InstructionSet;
using cpu::kBlock;
using cpu::kPanelRows;
using cpu::kRowMultiple;
using cpu::Products;

constexpr std::int64_t kPitch = 3 * kBlock;  // of codes in memory
constexpr std::int64_t kOffset = kBlock;     // of the K block that is multiplied
constexpr std::int64_t kAccPitch = 80;
constexpr float kUntouched = 12345.0F;

// Codes of some rows, their K block surrounded by NaN.
struct Codes {
  explicit Codes(int rows, std::uint8_t fill = 0)
      : memory(static_cast<std::size_t>(rows * kPitch), contract::kE4m3NaN) {
    for (int r = 0; r < rows; ++r) std::fill_n(row(r), kBlock, fill);
  }
  std::uint8_t* row(int r) { return memory.data() + r * kPitch + kOffset; }
  std::vector<std::uint8_t> memory;
};

Codes random_codes(int rows, std::uint64_t seed) {
  Codes codes(rows);
  std::mt19937_64 random(seed);
  for (int r = 0; r < rows; ++r) {
    std::generate_n(codes.row(r), kBlock, [&] {
      const auto code = static_cast<std::uint8_t>(random());
      return (code & 0x7fU) == 0x7fU ? std::uint8_t{0} : code;
    });
  }
  return codes;
}

struct Operands {
  Codes activations;
  Codes weights;
  std::vector<float> scales;
  std::vector<float> acc;  // [rows, 64] before the product
};

Operands random_operands(int rows, std::uint64_t seed) {
  Operands operands{random_codes(rows, seed), random_codes(kPanelRows, seed + 1), {}, {}};
  std::mt19937_64 random(seed + 2);
  std::normal_distribution<float> normal;
  for (int r = 0; r < rows; ++r) operands.scales.push_back(normal(random));
  for (int i = 0; i < rows * kPanelRows; ++i) operands.acc.push_back(1e3F * normal(random));
  return operands;
}

/// acc after the product, [rows, 64]; fails when anything but the rows changed.
std::vector<float> multiply(const Products& products, Operands operands) {
  const auto rows = static_cast<int>(operands.scales.size());
  const int padded = (rows + kRowMultiple - 1) / kRowMultiple * kRowMultiple;
  AlignedMemory panel(products.panel_bytes);
  AlignedMemory activations(products.activation_bytes * static_cast<std::size_t>(padded));
  std::vector<const std::uint8_t*> pointers;
  pointers.reserve(operands.scales.size());
  for (int r = 0; r < rows; ++r) pointers.push_back(operands.activations.row(r) - kOffset);
  std::vector<float> acc(static_cast<std::size_t>((padded + 1) * kAccPitch), kUntouched);
  for (int r = 0; r < rows; ++r) {
    std::copy_n(operands.acc.begin() + r * kPanelRows, kPanelRows, acc.begin() + r * kAccPitch);
  }

  products.enter();
  products.decode_panel(operands.weights.row(0), kPitch, panel.data());
  products.decode_activations(pointers.data(), kOffset, rows, activations.data());
  products.multiply_add(activations.data(), panel.data(), operands.scales.data(), rows, acc.data(), kAccPitch);
  products.leave();

  std::vector<float> result;
  for (std::int64_t i = 0; i < static_cast<std::int64_t>(acc.size()); ++i) {
    if (i / kAccPitch < rows && i % kAccPitch < kPanelRows) {
      result.push_back(acc[static_cast<std::size_t>(i)]);
    } else {
      EXPECT_EQ(acc[static_cast<std::size_t>(i)], kUntouched) << i << " of " << rows << " rows";
    }
  }
  return result;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return std::ranges::equal(a, b, {}, std::bit_cast<std::uint32_t, float>, std::bit_cast<std::uint32_t, float>);
}

class CpuProducts : public EachPath {};

TEST_P(CpuProducts, stay_within_128_roundings_of_the_exact_sum) {
  for (const int rows : {1, 2, 5, 6, 7, 15, 16, 17, 31, 32, 33, 70}) {
    Operands operands = random_operands(rows, static_cast<std::uint64_t>(rows));
    const std::vector<float> result = multiply(products(), operands);
    for (int r = 0; r < rows; ++r) {
      for (int n = 0; n < kPanelRows; ++n) {
        double sum = 0;
        double magnitudes = 0;
        for (int k = 0; k < kBlock; ++k) {
          const double product = double{contract::e4m3_decode(operands.activations.row(r)[k])} *
                                 double{contract::e4m3_decode(operands.weights.row(n)[k])};
          sum += product;
          magnitudes += std::abs(product);
        }
        const std::size_t i = std::size_t{kPanelRows} * static_cast<std::size_t>(r) + static_cast<std::size_t>(n);
        const double scale = operands.scales[static_cast<std::size_t>(r)];
        const double exact = sum * scale + operands.acc[i];
        const double bound = (128 * magnitudes * std::abs(scale) + std::abs(exact)) * 0x1p-24;
        EXPECT_NEAR(result[i], exact, bound) << "row " << r << " of " << rows << ", column " << n;
      }
    }
  }
}

TEST_P(CpuProducts, decode_every_code_exactly) {
  constexpr std::uint8_t kOne = 0x38;
  for (int code = 0; code < 256; ++code) {
    if ((code & 0x7f) == 0x7f) continue;
    // One code among zeros, moving through K and rows with its number, times ones; then the operands change places.
    for (const bool in_weights : {false, true}) {
      constexpr int kRows = 40;
      const int k = code * 5 % kBlock;
      Operands operands{Codes(kRows, in_weights ? kOne : 0), Codes(kPanelRows, in_weights ? 0 : kOne),
                        std::vector<float>(kRows, 1.0F), std::vector<float>(kRows * kPanelRows, 0.0F)};
      const int at = code % (in_weights ? kPanelRows : kRows);
      (in_weights ? operands.weights : operands.activations).row(at)[k] = static_cast<std::uint8_t>(code);
      const std::vector<float> result = multiply(products(), operands);
      for (int r = 0; r < kRows; ++r) {
        for (int n = 0; n < kPanelRows; ++n) {
          const float expected =
              (in_weights ? n : r) == at ? contract::e4m3_decode(static_cast<std::uint8_t>(code)) : 0.0F;
          ASSERT_EQ(result[static_cast<std::size_t>(r * kPanelRows + n)], expected)
              << "code " << code << ", row " << r << ", column " << n;
        }
      }
    }
  }
}

TEST_P(CpuProducts, of_a_row_do_not_depend_on_the_other_rows) {
  constexpr int kRows = 50;
  const Operands all = random_operands(kRows, 7);
  const std::vector<float> together = multiply(products(), all);
  for (int r = 0; r < kRows; ++r) {
    for (const int others : {0, 1, 2, 3, 4, 5, 16, 31}) {
      Operands some = random_operands(others + 1, 99);
      some.weights = all.weights;
      Codes source = all.activations;
      std::copy_n(source.row(r), kBlock, some.activations.row(others));
      some.scales.back() = all.scales[static_cast<std::size_t>(r)];
      std::copy_n(all.acc.begin() + r * kPanelRows, kPanelRows, some.acc.end() - kPanelRows);
      const std::vector<float> apart = multiply(products(), some);
      EXPECT_TRUE(
          same_bits(std::vector<float>(apart.end() - kPanelRows, apart.end()),
                    std::vector<float>(together.begin() + r * kPanelRows, together.begin() + (r + 1) * kPanelRows)))
          << "row " << r << " after " << others << " others";
    }
  }
}

TEST_P(CpuProducts, keep_a_nan_in_its_row_and_its_column) {
  constexpr int kRows = 37;
  constexpr int kBadRow = 17;
  constexpr int kBadColumn = 43;
  const Operands clean = random_operands(kRows, 3);
  Operands bad = clean;
  bad.activations.row(kBadRow)[77] = 0xff;
  bad.weights.row(kBadColumn)[2] = contract::kE4m3NaN;
  const std::vector<float> expected = multiply(products(), clean);
  const std::vector<float> result = multiply(products(), bad);
  for (int r = 0; r < kRows; ++r) {
    for (int n = 0; n < kPanelRows; ++n) {
      const std::size_t i = std::size_t{kPanelRows} * static_cast<std::size_t>(r) + static_cast<std::size_t>(n);
      if (r == kBadRow || n == kBadColumn) {
        EXPECT_TRUE(std::isnan(result[i])) << r << ", " << n;
      } else {
        EXPECT_EQ(result[i], expected[i]) << r << ", " << n;
      }
    }
  }
}

TEST_P(CpuProducts, have_the_bits_of_plain_where_the_header_says_so) {
  if (GetParam() == InstructionSet::amx) GTEST_SKIP() << "TDPBF16PS adds in another order";
  for (const int rows : {1, 6, 23}) {
    const Operands operands = random_operands(rows, 40 + static_cast<std::uint64_t>(rows));
    EXPECT_TRUE(same_bits(multiply(products(), operands), multiply(cpu::products_of(InstructionSet::plain), operands)));
  }
}

INSTANTIATE_TEST_SUITE_P(Paths, CpuProducts, testing::ValuesIn(kEverySet), path_name);

}  // namespace
}  // namespace blockmoe::test
