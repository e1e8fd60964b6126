// avx512.cpp: the product on AVX-512 with VDPBF16PS (bf16 pairs, fp32 sums) and table look-ups of bytes (VBMI).
//
//   panel        [4, 64, 16, 2]  bf16: (16 weight rows, pair of K, weight row, element of the pair)
//   activations  [rows, 128]     bf16
//
// A tile of 6 rows x 64 columns keeps 24 accumulators: 24 VDPBF16PS for 4 loads of weights and 6 broadcasts. A panel is
// 16 KiB and stays in L1 while all rows pass.
// Compiled with its own flags; includes nothing whose inline functions the rest of the program shares.
#include <immintrin.h>

#include "cpu/products/products.hpp"

namespace blockmoe::cpu {
namespace {

constexpr int kGroup = 16;  // weight rows of a register
constexpr int kGroups = kPanelRows / kGroup;
constexpr int kGroupValues = kGroup * kBlock;  // bf16 values of a group
constexpr int kTileRows = 6;

void nothing() {}

// bf16 of 64 codes: low and high bytes looked up apart (VPERMI2B sees 7 bits of each index), then the sign.
struct Decoder {
  __m512i low[2];
  __m512i high[2];
  __m512i sign = _mm512_set1_epi8(static_cast<char>(0x80));

  Decoder() {
    const DecodeTables& tables = decode_tables();
    for (int i = 0; i < 2; ++i) {
      low[i] = _mm512_load_si512(tables.low + 64 * i);
      high[i] = _mm512_load_si512(tables.high + 64 * i);
    }
  }

  // In each 128-bit lane: `first` holds the values of codes 0..7, `second` those of codes 8..15.
  void decode(__m512i codes, __m512i* first, __m512i* second) const {
    constexpr int kAOrBAndC = 0xf8;
    const __m512i low_bytes = _mm512_permutex2var_epi8(low[0], codes, low[1]);
    const __m512i magnitude = _mm512_permutex2var_epi8(high[0], codes, high[1]);
    const __m512i high_bytes = _mm512_ternarylogic_epi64(magnitude, codes, sign, kAOrBAndC);
    *first = _mm512_unpacklo_epi8(low_bytes, high_bytes);
    *second = _mm512_unpackhi_epi8(low_bytes, high_bytes);
  }
};

// 32 bytes of four rows, four rows apart, as two registers of 16 bytes each: lane i is row 4 * i.
inline void load_lanes(const std::uint8_t* row, std::int64_t pitch, __m512i* first, __m512i* second) {
  const auto at = [&](int r) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + r * pitch)); };
  const __m512i low = _mm512_inserti64x4(_mm512_castsi256_si512(at(0)), at(4), 1);
  const __m512i high = _mm512_inserti64x4(_mm512_castsi256_si512(at(8)), at(12), 1);
  *first = _mm512_shuffle_i64x2(low, high, 0x88);
  *second = _mm512_shuffle_i64x2(low, high, 0xdd);
}

// 16 rows x 16 values of K: 8 registers of (row, pair), by transposing pairs of codes within 128-bit lanes.
inline void decode_16x16(const Decoder& decoder, const __m512i (&r)[4], std::uint16_t* out) {
  const __m512i r01[2] = {_mm512_unpacklo_epi16(r[0], r[1]), _mm512_unpackhi_epi16(r[0], r[1])};
  const __m512i r23[2] = {_mm512_unpacklo_epi16(r[2], r[3]), _mm512_unpackhi_epi16(r[2], r[3])};
  for (int half = 0; half < 2; ++half) {
    const __m512i pairs[2] = {_mm512_unpacklo_epi32(r01[half], r23[half]), _mm512_unpackhi_epi32(r01[half], r23[half])};
    for (int i = 0; i < 2; ++i) {
      __m512i first;
      __m512i second;
      decoder.decode(pairs[i], &first, &second);
      std::uint16_t* at = out + (4 * half + 2 * i) * 2 * kGroup;
      _mm512_store_si512(at, first);
      _mm512_store_si512(at + 2 * kGroup, second);
    }
  }
}

// Four rows' next K block into L2: L1 would hold the 64 rows of a panel only where their pitch spreads them over its sets,
// and 7168 does not. A few at a time, between other work, or the core waits for free miss buffers.
inline void prefetch_next(const std::uint8_t* row, std::int64_t pitch) {
  for (int r = 0; r < 4; ++r) {
    const auto* next = reinterpret_cast<const char*>(row + r * pitch + kBlock);
    _mm_prefetch(next, _MM_HINT_T1);
    _mm_prefetch(next + 64, _MM_HINT_T1);
  }
}

template <int kRows>
void multiply_add_tile(const std::uint16_t* a, const std::uint16_t* w, const float* scales, float* acc,
                       std::int64_t acc_pitch) {
  __m512 partial[kRows][kGroups];
  for (auto& row : partial) {
    for (auto& group : row) group = _mm512_setzero_ps();
  }
  for (int k = 0; k < kBlock; k += 2) {
    __m512bh weights[kGroups];
    for (int g = 0; g < kGroups; ++g) {
      weights[g] = reinterpret_cast<__m512bh>(_mm512_load_si512(w + g * kGroupValues + k * kGroup));
    }
    for (int r = 0; r < kRows; ++r) {
      const auto pair = reinterpret_cast<__m512bh>(_mm512_broadcastd_epi32(_mm_loadu_si32(a + r * kBlock + k)));
      for (int g = 0; g < kGroups; ++g) partial[r][g] = _mm512_dpbf16_ps(partial[r][g], weights[g], pair);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    const __m512 scale = _mm512_set1_ps(scales[r]);
    for (int g = 0; g < kGroups; ++g) {
      float* out = acc + r * acc_pitch + g * kGroup;
      _mm512_storeu_ps(out, _mm512_fmadd_ps(partial[r][g], scale, _mm512_loadu_ps(out)));
    }
  }
}

using Tile = void (*)(const std::uint16_t*, const std::uint16_t*, const float*, float*, std::int64_t);
constexpr Tile kTiles[kTileRows + 1] = {nullptr,
                                        multiply_add_tile<1>,
                                        multiply_add_tile<2>,
                                        multiply_add_tile<3>,
                                        multiply_add_tile<4>,
                                        multiply_add_tile<5>,
                                        multiply_add_tile<6>};

void multiply_add(const void* activations, const void* panel, const float* scales, int count, float* acc,
                  std::int64_t acc_pitch) {
  const auto* a = static_cast<const std::uint16_t*>(activations);
  const auto* w = static_cast<const std::uint16_t*>(panel);
  for (int r = 0; r < count; r += kTileRows) {
    const int rows = count - r < kTileRows ? count - r : kTileRows;
    kTiles[rows](a + r * kBlock, w, scales + r, acc + r * acc_pitch, acc_pitch);
  }
}

}  // namespace

void decode_panel_bf16(const std::uint8_t* codes, std::int64_t pitch, void* panel) {
  auto* out = static_cast<std::uint16_t*>(panel);
  const Decoder decoder;
  for (int group = 0; group < kGroups; ++group) {
    const std::uint8_t* rows = codes + group * kGroup * pitch;
    for (int k = 0; k < kBlock; k += 32) {
      prefetch_next(rows + k / 8 * pitch, pitch);
      __m512i first[4];
      __m512i second[4];
      for (int r = 0; r < 4; ++r) load_lanes(rows + r * pitch + k, pitch, &first[r], &second[r]);
      decode_16x16(decoder, first, out);
      decode_16x16(decoder, second, out + 16 * kGroup);
      out += 32 * kGroup;
    }
  }
}

void decode_activations_bf16(const std::uint8_t* const* rows, std::int64_t offset, int count, void* activations) {
  auto* out = static_cast<std::uint16_t*>(activations);
  const Decoder decoder;
  // Codes 8 * i.. and 32 + 8 * i.. into lane i, so that each decoded half is 32 values in order.
  const __m512i order = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
  for (int r = 0; r < count; ++r) {
    const std::uint8_t* row = rows[r] + offset;
    _mm_prefetch(reinterpret_cast<const char*>(row + kBlock), _MM_HINT_T1);
    _mm_prefetch(reinterpret_cast<const char*>(row + kBlock + 64), _MM_HINT_T1);
    for (int k = 0; k < kBlock; k += 64) {
      __m512i first;
      __m512i second;
      decoder.decode(_mm512_permutexvar_epi64(order, _mm512_loadu_si512(row + k)), &first, &second);
      _mm512_store_si512(out, first);
      _mm512_store_si512(out + 32, second);
      out += 64;
    }
  }
}

const Products kAvx512Products = {
    .panel_bytes = sizeof(std::uint16_t) * kPanelRows * kBlock,
    .activation_bytes = sizeof(std::uint16_t) * kBlock,
    .enter = nothing,
    .leave = nothing,
    .decode_panel = decode_panel_bf16,
    .decode_activations = decode_activations_bf16,
    .multiply_add = multiply_add,
};

}  // namespace blockmoe::cpu
