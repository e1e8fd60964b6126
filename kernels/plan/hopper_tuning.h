// hopper_tuning.h: which kernels of hopper/ a call runs. The one place; host C++17.
//
// The host knows T, not the rows of each expert. A uniform router gives each expert T * top_k / E rows, a real one about that
// with a spread; a kernel serves any number of rows, in several column tiles where one is too narrow.
#pragma once

#include <array>
#include <cstdint>

#include "contract/geometry.h"
#include "plan/uniform_router.h"

namespace blockmoe::kernels::plan {

// The widest column tile, in rows of one expert, that a kernel computes at once (hopper/products.cuh).
enum class HopperWidth : std::int32_t { narrow = 24, middle = 64, wide = 128 };

struct HopperConfig {
  HopperWidth width = HopperWidth::narrow;
  std::int32_t most_pieces = 4;  // shares of one tile's K (hopper/split.h)
  bool cuts_leftover = true;     // tiles beyond whole waves are cut, too
  bool gemm1_in_halves = false;  // gemm1 promotes every 64 of K (hopper/multiply.cuh)
  bool writes_zeros = false;     // the products write the rows of tokens without a local pick (hopper/zero_rows.cuh)
  const char* reason = "";
  bool exact_gemm1 = true;  // the narrow kernel multiplies gemm1 in fp16 (hopper/multiply_exact.cuh)
};

struct HopperTuningRow {
  double rows_an_expert;  // up to so many, by a uniform router
  HopperConfig config;
};

// Measured on one NVIDIA H200, both products of DeepSeek-V3's layer, microseconds, L2 cold (docs/performance-log.md).
inline constexpr std::array<HopperTuningRow, 5> kHopperTuning = {{
    // T = 64: 309 narrow, 320 middle; T = 256: 348 and 345. More than 4 pieces gain under 1% at T = 1 and lose as much at 64.
    {4.0,
     {HopperWidth::narrow, 4, true, false, false,
      "weights decide: the deepest ring, and registers left for combine's CTAs"}},
    // T = 512: 349 middle, 353 wide; T = 901: 367 and 371; T = 1024, 1536: equal. Halves: T = 901 2 us more, relative L2 on
    // profile model 0.0044 with rows in bf16; in f32 and without halves 0.0047.
    {30.0,
     {HopperWidth::middle, 4, true, true, false,
      "one column tile an expert, both halves of a tile in flight; gemm1 promotes every 64 of K, as there is time"}},
    // A straight tile's sums are 128 KB. Leftover cut or not: T = 2048 435 and 428, 4096 580 and 575, 14107 1483 and 1479.
    // Halves: T = 2048 4 us more. Beyond, most tiles are straight, where halves cost 9 to 13%.
    {80.0,
     {HopperWidth::wide, 4, false, true, false,
      "one column tile an expert; gemm1 promotes every 64 of K, as there is almost time"}},
    {200.0, {HopperWidth::wide, 4, false, false, false, "as many multiplications as reads, and the widest tiles"}},
    // Zeros beside the products or by combine: T = 2048 435 and 427, 4096 557 and 556, 8192 912 and 918, 14107 1447 and 1466.
    {1e30,
     {HopperWidth::wide, 4, false, false, true,
      "the matrix unit decides, and memory has time for rows that nobody computes"}},
}};

// gemm1 in shapes up to so wide multiplies in fp16 (hopper/multiply_exact.cuh): about 900 conversions and 400 mma.sync for an
// SM's 1600 cycles of memory time at N = 24. Wider, the products would decide, and errors average over more rows.
inline constexpr int kExactGemm1Columns = 24;

// In the widest kernel, column tiles of more rows are multiplied straight (hopper/multiply_straight.cuh). Cycles a K block: swapped
// 695, 840 and 1000 at 16, 32 and 48 rows, straight 1520 to 1670. At most 48, 64, 80 and 96 swapped: T = 2048 431, 417, 416 and 417
// us; 8192 908, 906, 893 and 902; 14107 1442, 1437, 1422 and 1437.
inline constexpr int kMostSwappedRows = 80;

// Beyond, the widest kernel's shared memory has no room for the table of experts.
inline constexpr std::int32_t kMostExpertsWide = 512;

// The same sums in the same order whatever T is: no tile is cut, and all of gemm1 promotes every 64 of K on the FP8 unit, which
// costs large calls less than fp16 would. The gates hold from T = 80 on; with fewer tokens the error scatters, 0.006 at T = 1 (docs/numerics.md).
// Widths and the direction of a product move no bit.
inline HopperConfig batch_invariant(HopperConfig config) {
  config.most_pieces = 1;
  config.cuts_leftover = false;
  config.exact_gemm1 = false;
  config.gemm1_in_halves = true;
  return config;
}

inline HopperConfig hopper_config(const contract::Geometry& geometry, std::int64_t tokens) {
  for (const HopperTuningRow& row : kHopperTuning) {
    const bool next_fits = row.config.width != HopperWidth::middle || geometry.local_experts <= kMostExpertsWide;
    if (rows_an_expert(geometry, tokens) <= row.rows_an_expert || !next_fits) return row.config;
  }
  return kHopperTuning.back().config;
}

}  // namespace blockmoe::kernels::plan
