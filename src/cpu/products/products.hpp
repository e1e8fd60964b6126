// products.hpp: the one product that both GEMMs are made of.
//
//   activations  [rows, 128]     e4m3, decoded once for all the panels that they meet
//   panel        [64, 128]       e4m3 weights, K fast: half of one 128 x 128 scale block, decoded once for all its rows
//   scales       [rows]          activation scale * weight scale
//   acc          [rows, 64]      f32: acc = fma(partial, scale, acc)
//
// A partial is the fp32 sum of 128 products. Its order depends on the implementation alone, never on `rows` or on a row's
// place among them, so that a row's bits are its own.
//
// plain, avx2 and avx512_bf16 give the same bits: K goes in pairs, the odd element of a pair before the even one, each
// addition rounded to nearest even (the order of VDPBF16PS; a product of two e4m3 values is exact in fp32). amx sums the
// odd and the even elements of 32 values of K apart, adds the two, and adds that to the partial (TDPBF16PS).
#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu/instruction_set.hpp"

namespace blockmoe::cpu {

inline constexpr int kBlock = 128;       // K of a product
inline constexpr int kPanelRows = 64;    // weight rows of a panel, columns of acc
inline constexpr int kRowMultiple = 32;  // buffers of decoded activations hold a multiple of this many rows

struct Products {
  std::size_t panel_bytes;       // a decoded panel; 64-byte aligned
  std::size_t activation_bytes;  // a decoded row of 128 activations; 64-byte aligned

  /// Before a thread's first multiply_add of a batch, and after its last: AMX tiles are configured and released.
  void (*enter)();
  void (*leave)();

  /// Row n of the panel is at codes + n * pitch. Asks for the next 128 bytes of each row ahead of their use.
  void (*decode_panel)(const std::uint8_t* codes, std::int64_t pitch, void* panel);

  /// Row r is at rows[r] + offset.
  void (*decode_activations)(const std::uint8_t* const* rows, std::int64_t offset, int count, void* activations);

  /// acc's row r is at acc + r * acc_pitch; rows past `count` are neither read nor written there.
  void (*multiply_add)(const void* activations, const void* panel, const float* scales, int count, float* acc,
                       std::int64_t acc_pitch);
};

const Products& products_of(InstructionSet set);

/// bf16 of every e4m3 magnitude (the code without its sign bit), by bytes: what a table look-up of bytes needs.
struct DecodeTables {
  alignas(64) std::uint8_t low[128];
  alignas(64) std::uint8_t high[128];
};
const DecodeTables& decode_tables();

// One a file of this folder.
extern const Products kPlainProducts;
#if defined(__x86_64__)
extern const Products kAvx2Products;
extern const Products kAvx512Products;
extern const Products kAmxProducts;

// avx512.cpp, for amx.cpp too: panels as [4][64][16][2] bf16 = (16 weight rows, pair of K, weight row, element of the
// pair), which is both what VDPBF16PS takes a register at a time and a row of B tiles; activations as [rows][128] bf16.
void decode_panel_bf16(const std::uint8_t* codes, std::int64_t pitch, void* panel);
void decode_activations_bf16(const std::uint8_t* const* rows, std::int64_t offset, int count, void* activations);
#endif

}  // namespace blockmoe::cpu
