// columns.cuh: each expert's rows as column tiles of the swapped products.
//
// An expert with r rows gets ceil(r / limit) column tiles of equal width, rounded up to 8: none is computed for rows that
// are not there, and each reads the expert's weights once.
#pragma once

#include <cstdint>

#include "checked.h"

namespace blockmoe::kernels::hopper {

// Rows [row, row + rows) of the chunk, all of local expert `expert`.
struct ColumnTile {
  std::int32_t expert = 0;
  std::int32_t row = 0;
  std::int32_t rows = 0;
};

// A tile: a column tile and one of the expert's weight tiles.
struct Tile {
  ColumnTile columns;
  std::int32_t weight_tile = 0;
};

// In shared memory, made by a CTA at its start from the chunk's expert_begin.
struct ColumnTable {
  std::int32_t experts;
  std::int32_t limit;        // rows of a column tile at most
  bool full_first;           // all but an expert's last have as many; else they are equal
  std::int32_t* row_begin;   // [experts + 1]
  std::int32_t* tile_begin;  // [experts + 1] column tiles of the experts before

  __device__ std::int32_t column_tiles() const { return tile_begin[experts]; }
  __device__ std::int32_t column_tiles_of(std::int32_t expert) const {
    return tile_begin[expert + 1] - tile_begin[expert];
  }

  // Tiles are numbered by expert, then weight tile, then column tile: those that read the same weights are neighbours, so
  // that they run at the same time and the weights come from memory once.
  // `weight_tiles` are an expert's.
  __device__ Tile find(std::int32_t number, std::int32_t weight_tiles) const {
    std::int32_t low = 0;  // the last expert whose first tile is not beyond `number`
    std::int32_t high = experts;
    while (high - low > 1) {
      const std::int32_t middle = (low + high) / 2;
      if (tile_begin[middle] * weight_tiles <= number) {
        low = middle;
      } else {
        high = middle;
      }
    }
    const std::int32_t rows = row_begin[low + 1] - row_begin[low];
    const std::int32_t count = tile_begin[low + 1] - tile_begin[low];
    if (count == 1) return {{low, row_begin[low], rows}, number - tile_begin[low] * weight_tiles};
    const std::int32_t width = full_first ? limit : ((rows + count - 1) / count + 7) / 8 * 8;
    const std::int32_t within = number - tile_begin[low] * weight_tiles;
    const std::int32_t weight_tile = within / count;
    const std::int32_t offset = (within - weight_tile * count) * width;
    BLOCKMOE_CHECK_OR_TRAP(low < experts && count > 0 && within >= 0 && weight_tile < weight_tiles && offset < rows);
    return {{low, row_begin[low] + offset, min(width, rows - offset)}, weight_tile};
  }

  // The expert has no other column tile.
  __device__ bool is_only(const ColumnTile& columns) const {
    return columns.rows == row_begin[columns.expert + 1] - row_begin[columns.expert];
  }

  // By one whole warp.
  __device__ void build(const std::int32_t* expert_begin) const {
    const std::int32_t lane = static_cast<std::int32_t>(threadIdx.x) % 32;
    std::int32_t before = 0;
    for (std::int32_t base = 0; base <= experts; base += 32) {
      const std::int32_t expert = base + lane;
      const std::int32_t begin = __ldcg(expert_begin + min(expert, experts));
      const std::int32_t end = __ldcg(expert_begin + min(expert + 1, experts));
      std::int32_t count = (end - begin + limit - 1) / limit;
      std::int32_t sum = count;
#pragma unroll
      for (int step = 1; step < 32; step *= 2) {
        const std::int32_t left = __shfl_up_sync(0xffffffffu, sum, step);
        if (lane >= step) sum += left;
      }
      if (expert <= experts) {
        row_begin[expert] = begin;
        tile_begin[expert] = before + sum - count;
      }
      before += __shfl_sync(0xffffffffu, sum, 31);
    }
  }
};

}  // namespace blockmoe::kernels::hopper
