// tile_shape.h: the sizes of a tile of the grouped products and of a stage of the ring that feeds it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace blockmoe::kernels::portable {

inline constexpr int kWarps = 8;
inline constexpr int kThreads = 32 * kWarps;
inline constexpr int kUnitRows = 16;  // rows of an mma
inline constexpr int kTileUnits = 4;
inline constexpr int kTileRows = kUnitRows * kTileUnits;
inline constexpr int kBlocks = 2;  // of weights, of 128 columns each
inline constexpr int kBlockColumns = 128;
inline constexpr int kStep = 128;  // values (and bytes) of K: one scale each

struct Stage {
  std::uint8_t activations[kTileRows][kStep];           // 16-byte vectors swizzled: vector_of() in mainloop.cuh
  std::uint8_t weights[kBlocks][kBlockColumns][kStep];  // likewise
  float scales[kTileRows + kBlocks];                    // of the rows, then of the blocks
  float padding[2];
};
static_assert(sizeof(Stage) % 16 == 0);

// Two arrays of [L + 1] that schedule.cuh keeps behind the ring.
constexpr std::size_t schedule_bytes(int experts) {
  return 2 * (static_cast<std::size_t>(experts) + 1) * sizeof(int);
}

// Depths of the ring that a compilation target has kernels for; shape.h says which one a device gets.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
template <int kStages>
inline constexpr bool kRingIsBuilt = kStages == 5;
#else
template <int kStages>
inline constexpr bool kRingIsBuilt = kStages < 5;
#endif

}  // namespace blockmoe::kernels::portable
