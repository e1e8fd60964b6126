// tile.hpp: what gemm1 and gemm2 share: a thread's accumulators of one row block, and the K loop's steps on them.
#pragma once

#include <cstdint>

#include "cpu/products/products.hpp"
#include "cpu/workspace.hpp"

namespace blockmoe::cpu {

/// acc of `rows` rows starts at zero; AMX tiles are configured while it lives.
class Tile {
 public:
  Tile(const Products& products, const Scratch& scratch, std::int32_t rows);
  ~Tile() { products_.leave(); }
  Tile(const Tile&) = delete;
  Tile& operator=(const Tile&) = delete;

  /// Memory of the row's activations [K] e4m3, before the K loop.
  void set_row(std::int32_t row, const std::uint8_t* activations) { scratch_.rows[row] = activations; }

  /// Begins a step: K block `k` of the activations. The caller sets every row's activation_scales() for it.
  void load_activations(std::int64_t k);
  float* activation_scales() { return scratch_.activation_scales; }

  /// Multiplies by 128 weight rows (row n at codes + n * pitch, at this K block) into columns column..column + 127.
  void multiply_add(const std::uint8_t* codes, std::int64_t pitch, float weight_scale, int column);

  std::int32_t rows() const { return rows_; }
  const float* acc(std::int32_t row) const { return scratch_.acc + std::int64_t{row} * kColumns; }

 private:
  const Products& products_;
  const Scratch& scratch_;
  std::int32_t rows_;
};

}  // namespace blockmoe::cpu
