#include "cpu/products/products.hpp"

#include "contract/e4m3.h"

namespace blockmoe::cpu {

const Products& products_of(InstructionSet set) {
#if defined(__x86_64__)
  switch (set) {
    case InstructionSet::amx:
      return kAmxProducts;
    case InstructionSet::avx512_bf16:
      return kAvx512Products;
    case InstructionSet::avx2:
      return kAvx2Products;
    case InstructionSet::plain:
      break;
  }
#else
  static_cast<void>(set);
#endif
  return kPlainProducts;
}

const DecodeTables& decode_tables() {
  static const DecodeTables tables = [] {
    DecodeTables t{};
    for (unsigned magnitude = 0; magnitude < 128; ++magnitude) {
      const std::uint32_t bits = contract::bits_of(contract::e4m3_decode(static_cast<std::uint8_t>(magnitude)));
      t.low[magnitude] = static_cast<std::uint8_t>(bits >> 16);
      t.high[magnitude] = static_cast<std::uint8_t>(bits >> 24);
    }
    return t;
  }();
  return tables;
}

}  // namespace blockmoe::cpu
