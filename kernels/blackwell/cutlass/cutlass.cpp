// cutlass.cpp: the product by CUTLASS: when it runs, and its launches.
#include <algorithm>
#include <cstddef>
#include <string>

#include "blackwell/cutlass/tiles.h"
#include "blackwell/products.h"
#include "launch.h"
#include "once_a_context.h"
#include "trace.h"

namespace blockmoe::kernels::blackwell {
namespace {

bool supports(const Request& request, std::string* why_not) {
  if (request.device.compute_capability != kComputeCapability) {
    *why_not = "compute capability " + std::to_string(request.device.compute_capability) + ", expected " +
               std::to_string(kComputeCapability) + " (sm_100a)";
    return false;
  }
  if (tiles().empty()) {
    *why_not = why_no_tiles();
    return false;
  }
  return true;
}

// Scales are read by four: so an expert's rows begin at a multiple of four.
std::int32_t row_padding(const Request&) {
  return 4;
}

bool gives(plan::RowType) {
  return true;
}

std::string explain(const Request& request, Product) {
  const plan::ChosenTiles chosen = plan::blackwell_tiles(request.policy, request.geometry, request.max_tokens);
  std::string text = "tcgen05 on e4m3, promoted to fp32 every 128 of K; tiles (rows x weights)";
  for (std::int32_t i = 0; i < chosen.tiles.count; ++i) {
    const plan::TileTable::Row& row = chosen.tiles.rows[i];
    text += i == 0 ? " " : ", ";
    text += plan::kTileInfo[static_cast<std::size_t>(row.tile)].name;
    if (i + 1 < chosen.tiles.count) text += " up to " + std::to_string(row.most_rows) + " rows";
  }
  if (chosen.tiles.count > 1) text += chosen.tiles.by_expert ? ", by each expert's rows" : ", by all rows";
  return text + ": " + chosen.reason;
}

std::size_t workspace_bytes(const Request& request) {
  std::size_t most = 0;
  for (const TileEntry& tile : tiles()) most = std::max(most, tile.map_bytes(request.device.sm_count));
  return most;
}

Error prepare_tiles() {
  Error error;
  for (const TileEntry& tile : tiles()) {
    if (error.ok()) error = error_in("cutlass", tile.prepare());
  }
  return error;
}

Error bind(const Plan&, std::shared_ptr<const void>*) {
  static OnceAContext tiles_prepared(current_context);
  constexpr std::int32_t kOnlyVariant = 0;
  return tiles_prepared.run(kOnlyVariant, prepare_tiles);
}

// One launch a tile of the table; the device has left work to one of them, or has divided the experts among them.
Error launch(const ProductCall& call, const void*, cudaStream_t stream) {
  const char* const name = call.product == Product::gemm1 ? "gemm1" : "gemm2";
  const TraceRange range(name);
  Error error;
  for (std::int32_t i = 0; i < call.tiles.count && error.ok(); ++i) {
    const auto number = static_cast<std::size_t>(call.tiles.rows[i].tile);
    const TileEntry& tile = tiles()[number];
    // Whole clusters, and one at least.
    const std::int32_t share = plan::kTileInfo[number].sms;
    const std::int32_t sms = std::max(call.sms / share, 1) * share;
    const auto run = call.output_type == plan::RowType::f32 ? tile.launch_f32 : tile.launch_bf16;
    error = error_in(name, run(call.groups[i], sms, call.workspace, stream));
  }
  return error;
}

}  // namespace

ProductEntry cutlass_entry() {
  return {Implementation::cutlass, supports, row_padding, gives, explain, workspace_bytes, bind, launch};
}

}  // namespace blockmoe::kernels::blackwell
