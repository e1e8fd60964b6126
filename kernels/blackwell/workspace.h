// workspace.h: the path's own part of the workspace, of one chunk at a time. It lies where other paths keep `inter`, `inter_scale` and
// `rows` (stages/layout.h), which this one does not use, and goes on behind them. Host and device.
//
// L experts, R' = rows of a chunk with each expert's padded (products.h), T' tokens of the slab, P picks of a token.
#pragma once

#include <cstddef>
#include <cstdint>

#include "blackwell/groups.h"
#include "contract/geometry.h"
#include "plan/blackwell_policy.h"
#include "plan/sizes.h"

namespace blockmoe::kernels::blackwell {

// What arguments.cu writes of one product.
struct ProductTables {
  std::int32_t* row_count[plan::kImplementations] = {};  // [L] each implementation's rows; all 0 but the chosen one's
  std::int32_t* rows = nullptr;  // [2] begin[L] where the output is in f32 and in bf16, 0 for the type that it has not
  std::int32_t* scale_pitch = nullptr;        // [1] of row_scale: begin[L]; row_capacity where mma works
  GroupShape* shapes[plan::kMostTiles] = {};  // [L] groups of each tile
  const std::uint8_t** activations = nullptr;
  const std::uint8_t** weights = nullptr;
  void** outputs = nullptr;
  const float** activation_scales = nullptr;
  const float** weight_scales = nullptr;
  std::int64_t* activation_strides = nullptr;
  std::int64_t* weight_strides = nullptr;
  std::int64_t* output_strides = nullptr;
  ScaleLayout* activation_scale_layouts = nullptr;
  ScaleLayout* weight_scale_layouts = nullptr;
};

struct Workspace {
  std::int32_t* row_begin = nullptr;  // [L + 1] first row of each expert
  std::int32_t* mma_begin = nullptr;  // [L + 1] the same where mma works, else 0
  std::int32_t* pick_row = nullptr;   // [T', P] row of each pick in this order, or -1
  ProductTables tables[plan::kProducts];
  std::uint8_t* hidden = nullptr;  // [R', H] e4m3, gathered
  float* hidden_scale = nullptr;   // [H/128, begin[L]]
  void* gate_up = nullptr;         // [R', 2I] f32 or bf16: gemm1's output
  std::uint8_t* inter = nullptr;   // [R', I] e4m3
  float* inter_scale = nullptr;    // [I/128, scale_pitch of gemm2]
  void* rows = nullptr;            // [R', H] f32 or bf16: gemm2's output, in gate_up's place
  void* product = nullptr;         // an implementation's own
  std::size_t bytes = 0;           // of all of it
};

// Rows of a chunk with padding: the worst case.
std::int64_t padded_capacity(const contract::Geometry& geometry, const plan::Sizes& sizes, std::int32_t row_padding);

// At `base`, aligned to 256 bytes; with `base` null, the size alone.
Workspace workspace_at(void* base, const contract::Geometry& geometry, const plan::Sizes& sizes,
                       std::int32_t row_padding, std::size_t product_bytes);

}  // namespace blockmoe::kernels::blackwell
