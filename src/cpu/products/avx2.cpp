// avx2.cpp: the product on AVX2 and FMA in fp32.
//
//   panel        [8, 64, 8, 2]  bf16: (8 weight rows, pair of K, weight row, element of the pair)
//   activations  [rows, 128]    f32
//
// A 32-bit lane of a panel's register is a pair: its upper half is the odd element in fp32 once the lower half is masked
// off, a shift by 16 gives the even one. A tile of 5 rows x 16 columns keeps 10 accumulators, as many as leave GCC room for
// the rest: 20 FMAs for 4 loads and 4 operations on weights and 10 broadcasts.
// Compiled with its own flags; includes nothing whose inline functions the rest of the program shares.
#include <immintrin.h>

#include "cpu/products/products.hpp"

namespace blockmoe::cpu {
namespace {

constexpr int kGroup = 8;                      // weight rows of a register
constexpr int kDecodedRows = 16;               // weight rows decoded together
constexpr int kGroupValues = kGroup * kBlock;  // bf16 values of a group
constexpr int kTileRows = 5;

void nothing() {}

inline __m256i bytes_of(int value) {
  return _mm256_set1_epi8(static_cast<char>(value));
}

// bf16 of 32 codes by arithmetic on bytes. For normal numbers the upper byte is 0x3c + (magnitude >> 4) and the lower one
// magnitude << 4; the 8 magnitudes below are corrected from a table; NaN becomes a NaN of either sign.
class Decoder {
 public:
  Decoder() {
    alignas(16) std::uint8_t low[16] = {};
    alignas(16) std::uint8_t high[16] = {};
    const DecodeTables& tables = decode_tables();
    for (unsigned magnitude = 0; magnitude < kSubnormals; ++magnitude) {
      low[magnitude] = static_cast<std::uint8_t>(tables.low[magnitude] ^ (magnitude << 4));
      high[magnitude] = static_cast<std::uint8_t>(tables.high[magnitude] ^ kHighOfNormals);
    }
    correct_low_ = _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(low)));
    correct_high_ = _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(high)));
  }

  // In each 128-bit lane: `first` holds the values of codes 0..7, `second` those of codes 8..15.
  void decode(__m256i codes, __m256i* first, __m256i* second) const {
    const __m256i magnitude = _mm256_and_si256(codes, bytes_of(0x7f));
    const __m256i row = _mm256_min_epu8(magnitude, bytes_of(kSubnormals));
    __m256i low = _mm256_and_si256(_mm256_slli_epi16(codes, 4), bytes_of(0xf0));
    low = _mm256_xor_si256(low, _mm256_shuffle_epi8(correct_low_, row));
    __m256i high = _mm256_and_si256(_mm256_srli_epi16(magnitude, 4), bytes_of(0x07));
    high = _mm256_add_epi8(high, bytes_of(kHighOfNormals));
    high = _mm256_xor_si256(high, _mm256_shuffle_epi8(correct_high_, row));
    high = _mm256_or_si256(high, _mm256_and_si256(codes, bytes_of(0x80)));
    high = _mm256_or_si256(high, _mm256_cmpeq_epi8(magnitude, bytes_of(0x7f)));
    *first = _mm256_unpacklo_epi8(low, high);
    *second = _mm256_unpackhi_epi8(low, high);
  }

 private:
  static constexpr unsigned kSubnormals = 8;        // magnitudes below; the table's entry 8 corrects nothing
  static constexpr unsigned kHighOfNormals = 0x3c;  // exponents 8 to 15 of bf16's 120 more than e4m3's, halved

  __m256i correct_low_;
  __m256i correct_high_;
};

// 16 bytes of two rows, four rows apart.
inline __m256i load_lanes(const std::uint8_t* row, std::int64_t pitch) {
  const __m128i low = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row));
  const __m128i high = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row + 4 * pitch));
  return _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
}

// Interleaves the 16-bit elements of a[i] and a[i + 4]; three times in a row this transposes 8 x 8 of them in each lane.
inline void interleave(const __m256i (&a)[8], __m256i (&b)[8]) {
  for (int i = 0; i < 4; ++i) {
    b[2 * i] = _mm256_unpacklo_epi16(a[i], a[i + 4]);
    b[2 * i + 1] = _mm256_unpackhi_epi16(a[i], a[i + 4]);
  }
}

// 16 rows x 16 values of K, that is 8 pairs, to two groups of 8 rows. Rows 0..3 and 8..11 stand in the lower lanes, the
// others in the upper ones, so that decoding leaves rows 0..7 in one register and 8..15 in the other.
inline void decode_16x16(const Decoder& decoder, const std::uint8_t* rows, std::int64_t pitch, std::uint16_t* out) {
  __m256i a[8];
  __m256i b[8];
  for (int r = 0; r < 8; ++r) a[r] = load_lanes(rows + (r < 4 ? r : r + 4) * pitch, pitch);
  interleave(a, b);
  interleave(b, a);
  interleave(a, b);
  for (int pair = 0; pair < 8; ++pair) {
    __m256i first;
    __m256i second;
    decoder.decode(b[pair], &first, &second);
    std::uint16_t* at = out + pair * 2 * kGroup;
    _mm256_store_si256(reinterpret_cast<__m256i*>(at), first);
    _mm256_store_si256(reinterpret_cast<__m256i*>(at + kGroupValues), second);
  }
}

// Two rows' next K block into L2, a few lines at a time between other work (avx512.cpp says why).
inline void prefetch_next(const std::uint8_t* row, std::int64_t pitch) {
  for (int r = 0; r < 2; ++r) {
    const auto* next = reinterpret_cast<const char*>(row + r * pitch + kBlock);
    _mm_prefetch(next, _MM_HINT_T1);
    _mm_prefetch(next + 64, _MM_HINT_T1);
  }
}

void decode_panel(const std::uint8_t* codes, std::int64_t pitch, void* panel) {
  auto* out = static_cast<std::uint16_t*>(panel);
  const Decoder decoder;
  for (int row = 0; row < kPanelRows; row += kDecodedRows) {
    const std::uint8_t* rows = codes + row * pitch;
    for (int k = 0; k < kBlock; k += 16) {
      prefetch_next(rows + k / 8 * pitch, pitch);
      decode_16x16(decoder, rows + k, pitch, out + row * kBlock + k * kGroup);
    }
  }
}

// 8 bf16 values as fp32.
inline void store_widened(__m128i values, float* out) {
  const __m256i words = _mm256_slli_epi32(_mm256_cvtepu16_epi32(values), 16);
  _mm256_store_si256(reinterpret_cast<__m256i*>(out), words);
}

void decode_activations(const std::uint8_t* const* rows, std::int64_t offset, int count, void* activations) {
  auto* out = static_cast<float*>(activations);
  const Decoder decoder;
  for (int r = 0; r < count; ++r) {
    const std::uint8_t* row = rows[r] + offset;
    for (int k = 0; k < kBlock; k += 32) {
      __m256i first;
      __m256i second;
      decoder.decode(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + k)), &first, &second);
      store_widened(_mm256_castsi256_si128(first), out);
      store_widened(_mm256_castsi256_si128(second), out + 8);
      store_widened(_mm256_extracti128_si256(first, 1), out + 16);
      store_widened(_mm256_extracti128_si256(second, 1), out + 24);
      out += 32;
    }
  }
}

// kRows x 8 * kGroups columns, from the panel's first group on.
template <int kRows, int kGroups>
void multiply_add_tile(const float* a, const std::uint16_t* w, const float* scales, float* acc,
                       std::int64_t acc_pitch) {
  const __m256i upper_half = _mm256_set1_epi32(static_cast<int>(0xffff0000));
  __m256 partial[kRows][kGroups];
  for (auto& row : partial) {
    for (auto& group : row) group = _mm256_setzero_ps();
  }
  for (int k = 0; k < kBlock; k += 2) {
    const auto pairs = [&](int g) {
      return _mm256_load_si256(reinterpret_cast<const __m256i*>(w + g * kGroupValues + k * kGroup));
    };
    __m256 weights[kGroups];
    for (int g = 0; g < kGroups; ++g) weights[g] = _mm256_castsi256_ps(_mm256_and_si256(pairs(g), upper_half));
    for (int r = 0; r < kRows; ++r) {
      const __m256 odd = _mm256_broadcast_ss(a + r * kBlock + k + 1);
      for (int g = 0; g < kGroups; ++g) partial[r][g] = _mm256_fmadd_ps(odd, weights[g], partial[r][g]);
    }
    for (int g = 0; g < kGroups; ++g) weights[g] = _mm256_castsi256_ps(_mm256_slli_epi32(pairs(g), 16));
    for (int r = 0; r < kRows; ++r) {
      const __m256 even = _mm256_broadcast_ss(a + r * kBlock + k);
      for (int g = 0; g < kGroups; ++g) partial[r][g] = _mm256_fmadd_ps(even, weights[g], partial[r][g]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    const __m256 scale = _mm256_broadcast_ss(scales + r);
    for (int g = 0; g < kGroups; ++g) {
      float* out = acc + r * acc_pitch + g * kGroup;
      _mm256_storeu_ps(out, _mm256_fmadd_ps(partial[r][g], scale, _mm256_loadu_ps(out)));
    }
  }
}

// Fewer rows take more columns at a time, so that enough sums are under way to hide an FMA's latency.
struct Tile {
  int groups;
  void (*multiply_add)(const float*, const std::uint16_t*, const float*, float*, std::int64_t);
};
constexpr Tile kTiles[kTileRows + 1] = {{},
                                        {8, multiply_add_tile<1, 8>},
                                        {4, multiply_add_tile<2, 4>},
                                        {2, multiply_add_tile<3, 2>},
                                        {2, multiply_add_tile<4, 2>},
                                        {2, multiply_add_tile<5, 2>}};

void multiply_add(const void* activations, const void* panel, const float* scales, int count, float* acc,
                  std::int64_t acc_pitch) {
  const auto* a = static_cast<const float*>(activations);
  const auto* w = static_cast<const std::uint16_t*>(panel);
  for (int r = 0; r < count; r += kTileRows) {
    const Tile& tile = kTiles[count - r < kTileRows ? count - r : kTileRows];
    for (int g = 0; g < kPanelRows / kGroup; g += tile.groups) {
      tile.multiply_add(a + r * kBlock, w + g * kGroupValues, scales + r, acc + r * acc_pitch + g * kGroup, acc_pitch);
    }
  }
}

}  // namespace

const Products kAvx2Products = {
    .panel_bytes = sizeof(std::uint16_t) * kPanelRows * kBlock,
    .activation_bytes = sizeof(float) * kBlock,
    .enter = nothing,
    .leave = nothing,
    .decode_panel = decode_panel,
    .decode_activations = decode_activations,
    .multiply_add = multiply_add,
};

}  // namespace blockmoe::cpu
