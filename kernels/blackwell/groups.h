// groups.h: what a grouped kernel of CUTLASS reads of its groups, one group an expert, as arguments.cu writes it on the device.
// Plain structs, so that the kernel which fills them needs no CUTLASS: cutlass/grouped.cuh checks them against the types that they
// stand for.
#pragma once

#include <cstdint>

namespace blockmoe::kernels::blackwell {

// cute::Shape<int, int, int>: rows x weights x K of a group; where a tile is swapped, weights x rows x K.
struct GroupShape {
  std::int32_t m, n, k;
};

// cute::Layout of a group's scales, ((values a scale, blocks of rows), (128, blocks of K), 1), of which only what is not constant is
// stored. `pitch` goes from one block to the next in the slower of both directions: of activations along K, of weights along rows.
struct ScaleLayout {
  std::int32_t row_blocks, k_blocks, batches;
  std::int32_t pitch, batch_pitch;
};

// Of one product and tile: device arrays of [L]. An expert with m or n = 0 has no work.
struct Groups {
  const GroupShape* shapes = nullptr;
  const std::uint8_t* const* activations = nullptr;
  const std::uint8_t* const* weights = nullptr;
  void* const* outputs = nullptr;
  const float* const* activation_scales = nullptr;
  const float* const* weight_scales = nullptr;
  const std::int64_t* activation_strides = nullptr;  // from row to row, in elements; likewise
  const std::int64_t* weight_strides = nullptr;
  const std::int64_t* output_strides = nullptr;
  const ScaleLayout* activation_scale_layouts = nullptr;
  const ScaleLayout* weight_scale_layouts = nullptr;
  std::int32_t experts = 0;  // L
};

}  // namespace blockmoe::kernels::blackwell
