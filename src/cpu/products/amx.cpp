// amx.cpp: the product on AMX tiles of bf16 (TDPBF16PS); decoding is avx512.cpp's.
//
//   panel        [4, 64, 16, 2]  bf16: 16 pairs of K of a group of 16 weight rows are a B tile, 1 KiB in one piece
//   activations  [rows, 128]     bf16: 16 rows x 32 values of K are an A tile
//
// A step is 32 rows x 32 columns: 2 A, 2 B and 4 C tiles, 16 TDPBF16PS. Its partials go to a small buffer and are promoted
// there from registers while the next step's tiles multiply.
// Compiled with its own flags; includes nothing whose inline functions the rest of the program shares.
#include <immintrin.h>

#include "cpu/products/products.hpp"

namespace blockmoe::cpu {
namespace {

constexpr int kTile = 16;                     // rows and columns of a C tile, pairs of K of the others
constexpr int kTileBytes = 64;                // of a row of any tile
constexpr int kGroupValues = kTile * kBlock;  // bf16 values of a panel's group
constexpr int kStepRows = 2 * kTile;
constexpr int kStepColumns = 2 * kTile;

struct alignas(64) TileConfig {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t bytes_per_row[16] = {};
  std::uint8_t rows[16] = {};

  constexpr TileConfig() {
    for (int tile = 0; tile < 8; ++tile) {
      bytes_per_row[tile] = kTileBytes;
      rows[tile] = kTile;
    }
  }
};
static_assert(sizeof(TileConfig) == 64);

struct alignas(64) Partials {
  float values[kStepRows][kStepColumns];
};

// Static, because _tile_loadconfig does not tell the compiler that it reads all 64 bytes.
constexpr TileConfig kTileConfig;

void enter() {
  _tile_loadconfig(&kTileConfig);
}

void leave() {
  _tile_release();
}

// Tiles 0..3 are C, 4 and 5 A, 6 and 7 B.
void multiply_two_by_two(const std::uint16_t* a, const std::uint16_t* w, Partials* out) {
  constexpr int kRowBytes = kBlock * sizeof(std::uint16_t);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int k = 0; k < kBlock; k += 2 * kTile) {
    _tile_loadd(4, a + k, kRowBytes);
    _tile_loadd(6, w + k * kTile, kTileBytes);
    _tile_loadd(7, w + kGroupValues + k * kTile, kTileBytes);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, a + kTile * kBlock + k, kRowBytes);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  constexpr int kPitch = kStepColumns * sizeof(float);
  _tile_stored(0, out->values[0], kPitch);
  _tile_stored(1, out->values[0] + kTile, kPitch);
  _tile_stored(2, out->values[kTile], kPitch);
  _tile_stored(3, out->values[kTile] + kTile, kPitch);
}

void multiply_one_by_two(const std::uint16_t* a, const std::uint16_t* w, Partials* out) {
  constexpr int kRowBytes = kBlock * sizeof(std::uint16_t);
  _tile_zero(0);
  _tile_zero(1);
  for (int k = 0; k < kBlock; k += 2 * kTile) {
    _tile_loadd(4, a + k, kRowBytes);
    _tile_loadd(6, w + k * kTile, kTileBytes);
    _tile_loadd(7, w + kGroupValues + k * kTile, kTileBytes);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
  }
  constexpr int kPitch = kStepColumns * sizeof(float);
  _tile_stored(0, out->values[0], kPitch);
  _tile_stored(1, out->values[0] + kTile, kPitch);
}

void promote(const Partials& partials, const float* scales, int rows, float* acc, std::int64_t acc_pitch) {
  for (int r = 0; r < rows; ++r) {
    const __m512 scale = _mm512_set1_ps(scales[r]);
    for (int n = 0; n < kStepColumns; n += kTile) {
      float* out = acc + r * acc_pitch + n;
      const __m512 partial = _mm512_load_ps(partials.values[r] + n);
      _mm512_storeu_ps(out, _mm512_fmadd_ps(partial, scale, _mm512_loadu_ps(out)));
    }
  }
}

void multiply_add(const void* activations, const void* panel, const float* scales, int count, float* acc,
                  std::int64_t acc_pitch) {
  const auto* a = static_cast<const std::uint16_t*>(activations);
  const auto* w = static_cast<const std::uint16_t*>(panel);
  constexpr int kColumnSteps = kPanelRows / kStepColumns;
  const int steps = (count + kStepRows - 1) / kStepRows * kColumnSteps;
  Partials partials[2];
  for (int step = 0; step <= steps; ++step) {
    if (step < steps) {
      const int row = step / kColumnSteps * kStepRows;
      const std::uint16_t* columns = w + step % kColumnSteps * 2 * kGroupValues;
      if (count - row > kTile) {
        multiply_two_by_two(a + row * kBlock, columns, &partials[step % 2]);
      } else {
        multiply_one_by_two(a + row * kBlock, columns, &partials[step % 2]);
      }
    }
    if (step > 0) {
      const int done = step - 1;
      const int row = done / kColumnSteps * kStepRows;
      const int rows = count - row < kStepRows ? count - row : kStepRows;
      const int column = done % kColumnSteps * kStepColumns;
      promote(partials[done % 2], scales + row, rows, acc + row * acc_pitch + column, acc_pitch);
    }
  }
}

}  // namespace

const Products kAmxProducts = {
    .panel_bytes = sizeof(std::uint16_t) * kPanelRows * kBlock,
    .activation_bytes = sizeof(std::uint16_t) * kBlock,
    .enter = enter,
    .leave = leave,
    .decode_panel = decode_panel_bf16,
    .decode_activations = decode_activations_bf16,
    .multiply_add = multiply_add,
};

}  // namespace blockmoe::cpu
