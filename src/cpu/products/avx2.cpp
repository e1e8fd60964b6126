// avx2.cpp: the product on AVX2 and FMA in fp32.
//
//   panel        [4, 128, 16]  f32: (16 weight rows, K, weight row)
//   activations  [rows, 128]   f32
//
// A tile of 6 rows x 16 columns keeps 12 accumulators: 12 FMAs for 2 loads of weights and 6 broadcasts.
// Compiled with its own flags; includes nothing whose inline functions the rest of the program shares.
#include <immintrin.h>

#include "cpu/products/products.hpp"

namespace blockmoe::cpu {
namespace {

constexpr int kGroup = 16;  // weight rows decoded together
constexpr int kTileRows = 6;

void nothing() {}

// 16 codes by way of fp16, whose exponent is e4m3's moved by 8: exact, subnormals too.
inline void decode16(__m128i codes, float* out) {
  const __m256i words = _mm256_cvtepu8_epi16(codes);
  const __m256i magnitude = _mm256_and_si256(words, _mm256_set1_epi16(0x7f));
  const __m256i sign = _mm256_slli_epi16(_mm256_andnot_si256(_mm256_set1_epi16(0x7f), words), 8);
  const __m256i is_nan = _mm256_cmpeq_epi16(magnitude, _mm256_set1_epi16(0x7f));
  __m256i half = _mm256_or_si256(_mm256_slli_epi16(magnitude, 7), sign);
  half = _mm256_or_si256(half, _mm256_and_si256(is_nan, _mm256_set1_epi16(0x7c00)));
  const __m256 rescale = _mm256_set1_ps(256.0f);
  _mm256_store_ps(out, _mm256_mul_ps(_mm256_cvtph_ps(_mm256_castsi256_si128(half)), rescale));
  _mm256_store_ps(out + 8, _mm256_mul_ps(_mm256_cvtph_ps(_mm256_extracti128_si256(half, 1)), rescale));
}

// Interleaves the bytes of a[i] and a[i + 8]; four times in a row this transposes 16 x 16 bytes.
inline void interleave(const __m128i (&a)[16], __m128i (&b)[16]) {
  for (int i = 0; i < 8; ++i) {
    b[2 * i] = _mm_unpacklo_epi8(a[i], a[i + 8]);
    b[2 * i + 1] = _mm_unpackhi_epi8(a[i], a[i + 8]);
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
  auto* out = static_cast<float*>(panel);
  for (int group = 0; group < kPanelRows; group += kGroup) {
    const std::uint8_t* rows = codes + group * pitch;
    for (int k = 0; k < kBlock; k += 16) {
      prefetch_next(rows + k / 8 * pitch, pitch);
      __m128i a[16];
      __m128i b[16];
      for (int r = 0; r < 16; ++r) a[r] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows + r * pitch + k));
      interleave(a, b);
      interleave(b, a);
      interleave(a, b);
      interleave(b, a);
      for (int i = 0; i < 16; ++i) decode16(a[i], out + i * kGroup);
      out += 16 * kGroup;
    }
  }
}

void decode_activations(const std::uint8_t* const* rows, std::int64_t offset, int count, void* activations) {
  auto* out = static_cast<float*>(activations);
  for (int r = 0; r < count; ++r) {
    const std::uint8_t* row = rows[r] + offset;
    for (int k = 0; k < kBlock; k += 16) {
      decode16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(row + k)), out + k);
    }
    out += kBlock;
  }
}

template <int kRows>
void multiply_add_tile(const float* a, const float* w, const float* scales, float* acc, std::int64_t acc_pitch) {
  __m256 low[kRows];
  __m256 high[kRows];
  for (int r = 0; r < kRows; ++r) low[r] = high[r] = _mm256_setzero_ps();
  for (int pair = 0; pair < kBlock; pair += 2) {
    for (const int k : {pair + 1, pair}) {
      const __m256 w_low = _mm256_load_ps(w + k * kGroup);
      const __m256 w_high = _mm256_load_ps(w + k * kGroup + 8);
      for (int r = 0; r < kRows; ++r) {
        const __m256 value = _mm256_broadcast_ss(a + r * kBlock + k);
        low[r] = _mm256_fmadd_ps(value, w_low, low[r]);
        high[r] = _mm256_fmadd_ps(value, w_high, high[r]);
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    float* out = acc + r * acc_pitch;
    const __m256 scale = _mm256_broadcast_ss(scales + r);
    _mm256_storeu_ps(out, _mm256_fmadd_ps(low[r], scale, _mm256_loadu_ps(out)));
    _mm256_storeu_ps(out + 8, _mm256_fmadd_ps(high[r], scale, _mm256_loadu_ps(out + 8)));
  }
}

using Tile = void (*)(const float*, const float*, const float*, float*, std::int64_t);
constexpr Tile kTiles[kTileRows + 1] = {nullptr,
                                        multiply_add_tile<1>,
                                        multiply_add_tile<2>,
                                        multiply_add_tile<3>,
                                        multiply_add_tile<4>,
                                        multiply_add_tile<5>,
                                        multiply_add_tile<6>};

void multiply_add(const void* activations, const void* panel, const float* scales, int count, float* acc,
                  std::int64_t acc_pitch) {
  const auto* a = static_cast<const float*>(activations);
  const auto* w = static_cast<const float*>(panel);
  for (int group = 0; group < kPanelRows; group += kGroup) {
    for (int r = 0; r < count; r += kTileRows) {
      const int rows = count - r < kTileRows ? count - r : kTileRows;
      kTiles[rows](a + r * kBlock, w + group * kBlock, scales + r, acc + r * acc_pitch + group, acc_pitch);
    }
  }
}

}  // namespace

const Products kAvx2Products = {
    .panel_bytes = sizeof(float) * kPanelRows * kBlock,
    .activation_bytes = sizeof(float) * kBlock,
    .enter = nothing,
    .leave = nothing,
    .decode_panel = decode_panel,
    .decode_activations = decode_activations,
    .multiply_add = multiply_add,
};

}  // namespace blockmoe::cpu
