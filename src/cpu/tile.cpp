#include "cpu/tile.hpp"

#include <algorithm>

#include "contract/host_device.h"

namespace blockmoe::cpu {

Tile::Tile(const Products& products, const Scratch& scratch, std::int32_t rows, int terms, std::int64_t term_pitch)
    : products_(products), scratch_(scratch), rows_(rows), terms_(terms), term_pitch_(term_pitch) {
  std::fill_n(scratch_.acc, std::int64_t{rows} * kColumns, 0.0f);
  products_.enter();
}

void Tile::load_activations(std::int64_t k) {
  for (int term = 0; term < terms_; ++term) {
    products_.decode_activations(scratch_.rows, k * kBlock + term * term_pitch_, rows_, activations(term));
  }
}

void Tile::multiply_add(const std::uint8_t* codes, std::int64_t pitch, float weight_scale, int column) {
  const auto scales = [&](int term) { return scratch_.scales + std::int64_t{term} * kRowBlock; };
  for (int term = 0; term < terms_; ++term) {
    for (std::int32_t r = 0; r < rows_; ++r) {
      scales(term)[r] = contract::rn::mul(activation_scales(term)[r], weight_scale);
    }
  }
  for (int n = 0; n < kBlock; n += kPanelRows) {
    products_.decode_panel(codes + n * pitch, pitch, scratch_.panel);
    for (int term = 0; term < terms_; ++term) {
      products_.multiply_add(activations(term), scratch_.panel, scales(term), rows_, scratch_.acc + column + n,
                             kColumns);
    }
  }
}

}  // namespace blockmoe::cpu
