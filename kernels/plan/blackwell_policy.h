// blackwell_policy.h: which implementation of each product, and which of its tiles, a call on blackwell/ runs. The one place; rules
// that ask for rows are evaluated on the device, by the same functions. Not one row of it has been measured: *not run on a B200*.
#pragma once

#include <array>
#include <cstdint>

#include "contract/geometry.h"
#include "contract/host_device.h"
#include "operator.h"
#include "plan/uniform_router.h"

namespace blockmoe::kernels::plan {

enum class Product : std::int32_t { gemm1, gemm2 };
inline constexpr std::int32_t kProducts = 2;

// mma is the portable path's gemm2, and no gemm1.
enum class Implementation : std::int32_t { cutlass, trtllm, mma };
inline constexpr std::int32_t kImplementations = 3;
inline constexpr std::array<const char*, kImplementations> kImplementationNames = {"cutlass", "trtllm", "mma"};

// What the choice of an implementation stands on.
struct ImplementationRule {
  Policy policy = Policy::automatic;
  BlackwellSwitches switches;
  bool trtllm_there = false;  // this build, this machine

  // `rows` are a chunk's, `tokens` are T of the call.
  BLOCKMOE_HD Implementation choice(Product product, std::int64_t tokens, std::int64_t rows) const {
    const bool gemm2 = product == Product::gemm2;
    bool trtllm = policy == Policy::trtllm;
    if (policy == Policy::reference_b200) {
      if (gemm2 && switches.mma_gemm2_rows > 0 && rows > switches.mma_gemm2_rows) return Implementation::mma;
      trtllm = gemm2 ? switches.trtllm_gemm2 && rows > 0 && rows <= switches.trtllm_gemm2_most_rows
                     : switches.trtllm_gemm1 && rows > 0 && tokens != 7 &&
                           (rows <= 128 || tokens <= 80 || (tokens >= 901 && tokens < 10'000));
    }
    return trtllm_there && trtllm ? Implementation::trtllm : Implementation::cutlass;
  }
};

// Whether a call of `tokens` whose chunks have 0 to `most_rows` rows may choose `implementation`: beyond these rows choices change.
inline bool may_choose(const ImplementationRule& rule, Product product, Implementation implementation,
                       std::int64_t tokens, std::int64_t most_rows) {
  for (const std::int64_t last :
       {std::int64_t{0}, std::int64_t{128}, rule.switches.trtllm_gemm2_most_rows, rule.switches.mma_gemm2_rows}) {
    for (const std::int64_t rows : {last, last + 1}) {
      if (rows <= most_rows && rule.choice(product, tokens, rows) == implementation) return true;
    }
  }
  return false;
}

struct PolicyEntry {
  Policy policy;
  const char* name;  // the word on the command line
  const char* reason;
};

inline constexpr std::array<PolicyEntry, 4> kPolicies = {{
    {Policy::automatic, "auto",
     "cutlass: its first product stays in fp32 up to the requantisation, the cubins' rounds to bf16; neither has run "
     "here"},
    {Policy::reference_b200, "reference_b200",
     "the branches and tiles of the benchmark's original, measured by its authors"},
    {Policy::cutlass, "cutlass", "asked for"},
    {Policy::trtllm, "trtllm", "asked for: the cubins wherever they are there; gemm1's sums round to bf16"},
}};

// Tiles that CUTLASS's product is compiled for (blackwell/cutlass/tiles.h).
enum class BlackwellTile : std::int32_t { m64n128, m64n256, m128n128, m256n128, swapped_m128n32, swapped_m128n16 };
inline constexpr std::int32_t kBlackwellTiles = 6;

struct BlackwellTileInfo {
  const char* name;  // rows x weights
  bool swapped;      // weights are M: blackwell/cutlass/grouped.cuh
  std::int32_t sms;  // that share a tile
};

inline constexpr std::array<BlackwellTileInfo, kBlackwellTiles> kTileInfo = {{
    {"64x128", false, 1},
    {"64x256", false, 1},
    {"128x128", false, 1},
    {"256x128 by two SMs", false, 2},
    {"32x128, swapped", true, 1},
    {"16x128, swapped", true, 1},
}};

inline constexpr std::int32_t kMostTiles =
    3;  // that one product is launched with; the device silences all but the one chosen
inline constexpr std::int64_t kNoLimit = std::int64_t{1} << 62;

// Tiles by rows, of the whole chunk or of each expert for itself: the first one whose limit is not exceeded. The last has none.
struct TileTable {
  struct Row {
    BlackwellTile tile = BlackwellTile::m128n128;
    std::int64_t most_rows = kNoLimit;
  };
  bool by_expert = false;
  std::int32_t count = 1;
  Row rows[kMostTiles];

  BLOCKMOE_HD std::int32_t index_of(std::int64_t rows_of_chunk, std::int64_t rows_of_expert) const {
    const std::int64_t counted = by_expert ? rows_of_expert : rows_of_chunk;
    std::int32_t i = 0;
    while (i + 1 < count && counted > rows[i].most_rows) ++i;
    return i;
  }
};

struct BlackwellTuningRow {
  double rows_an_expert;  // up to so many, by a uniform router
  TileTable tiles;
  const char* reason;
};

inline constexpr TileTable kReferenceTiles = {
    false, 3, {{BlackwellTile::m64n128, 1}, {BlackwellTile::m64n256, 2048}, {BlackwellTile::m128n128, kNoLimit}}};
inline constexpr const char* kReferenceReason = "the original's, by the rows of all experts";

// Estimates, each from what a tile must move and multiply. Two tiles a call, since one that is silenced still costs a launch.
inline constexpr std::array<BlackwellTuningRow, 4> kBlackwellTuning = {{
    {4.0,
     {true, 2, {{BlackwellTile::swapped_m128n16, 16}, {BlackwellTile::swapped_m128n32, kNoLimit}}},
     "weights decide: the fewest idle rows a tile; an expert of more rows takes tiles of 32"},
    {24.0,
     {true, 2, {{BlackwellTile::swapped_m128n32, 32}, {BlackwellTile::m64n128, kNoLimit}}},
     "one tile an expert, mostly; from 33 rows on as many rows as one SM's unit takes at least"},
    {96.0,
     {true, 2, {{BlackwellTile::m64n128, 64}, {BlackwellTile::m128n128, kNoLimit}}},
     "an expert's weights are read once a row of tiles: half as often with 128 rows"},
    {1e30,
     {true, 2, {{BlackwellTile::m128n128, 128}, {BlackwellTile::m256n128, kNoLimit}}},
     "multiplications decide: two SMs share the weights of a tile; experts of few rows take half of it"},
}};

struct ChosenTiles {
  TileTable tiles;
  const char* reason;
};

// Of CUTLASS's product in a call of `tokens`: without tiles that its rows can't reach, since an expert has at most a row a token.
inline ChosenTiles blackwell_tiles(Policy policy, const contract::Geometry& geometry, std::int64_t tokens) {
  ChosenTiles chosen = {kReferenceTiles, kReferenceReason};
  if (policy != Policy::reference_b200) {
    const double rows = rows_an_expert(geometry, tokens);
    std::size_t i = 0;
    while (rows > kBlackwellTuning[i].rows_an_expert) ++i;
    chosen = {kBlackwellTuning[i].tiles, kBlackwellTuning[i].reason};
  }
  const std::int64_t most = chosen.tiles.by_expert ? tokens : tokens * geometry.max_local_picks();
  while (chosen.tiles.count > 1 && chosen.tiles.rows[chosen.tiles.count - 2].most_rows >= most) --chosen.tiles.count;
  return chosen;
}

}  // namespace blockmoe::kernels::plan
