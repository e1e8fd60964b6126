#include "cpu/tile.hpp"

#include <algorithm>

#include "contract/host_device.h"

namespace blockmoe::cpu {

Tile::Tile(const Products& products, const Scratch& scratch, std::int32_t rows)
    : products_(products), scratch_(scratch), rows_(rows) {
  std::fill_n(scratch_.acc, std::int64_t{rows} * kColumns, 0.0f);
  products_.enter();
}

void Tile::load_activations(std::int64_t k) {
  products_.decode_activations(scratch_.rows, k * kBlock, rows_, scratch_.activations);
}

void Tile::multiply_add(const std::uint8_t* codes, std::int64_t pitch, float weight_scale, int column) {
  for (std::int32_t r = 0; r < rows_; ++r) {
    scratch_.scales[r] = contract::rn::mul(scratch_.activation_scales[r], weight_scale);
  }
  for (int n = 0; n < kBlock; n += kPanelRows) {
    products_.decode_panel(codes + n * pitch, pitch, scratch_.panel);
    products_.multiply_add(scratch_.activations, scratch_.panel, scratch_.scales, rows_, scratch_.acc + column + n,
                           kColumns);
  }
}

}  // namespace blockmoe::cpu
