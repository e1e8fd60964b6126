// schedule.cuh: which tile a CTA works on, from the rows that each expert turned out to have.
//
// A tile is (expert, column tile, up to 64 of the expert's rows; 32 where each has two terms). An expert's rows are cut evenly, in units of 16, into as
// few row tiles as hold them. Tiles are numbered expert by expert, then column by column, then row tile by row tile, so
// that CTAs with neighbouring numbers read the same weights. CTA b takes tiles b, b + gridDim.x, ...
#pragma once

#include <cstdint>

#include "checked.h"
#include "portable/tile_shape.h"

namespace blockmoe::kernels::portable {

struct Tile {
  int expert = 0;     // local
  int column = 0;     // column tile
  int row_begin = 0;  // within the chunk
  int rows = 0;       // 1..kTileRows; 0 in a tile past the last

  __device__ int units() const { return (rows + kUnitRows - 1) / kUnitRows; }
};

// In shared memory: two arrays of [L + 1].
struct Schedule {
  int* first_row;   // of each expert in the chunk
  int* first_tile;  // of each expert, counted in row tiles
  int experts;
  int columns;    // column tiles
  int most_rows;  // of a tile

  // By all threads of the CTA. `expert_begin` is the chunk's [L + 1]; `shared` has schedule_bytes(experts). `terms`: of a row.
  __device__ static Schedule build(const std::int32_t* expert_begin, int experts, int columns, int terms, int* shared) {
    Schedule s{shared, shared + experts + 1, experts, columns, kTileRows / terms};
    for (int e = static_cast<int>(threadIdx.x); e <= experts; e += static_cast<int>(blockDim.x)) {
      s.first_row[e] = expert_begin[e];
    }
    __syncthreads();
    if (threadIdx.x < 32) s.number_row_tiles();
    __syncthreads();
    return s;
  }

  __device__ int tiles() const { return first_tile[experts] * columns; }

  __device__ Tile tile(int number) const {
    Tile t;
    if (number >= tiles()) return t;
    t.expert = expert_of(number / columns);
    const int row_tiles = first_tile[t.expert + 1] - first_tile[t.expert];
    const int within = number - first_tile[t.expert] * columns;
    t.column = within / row_tiles;
    const int part = within - t.column * row_tiles;
    const int rows = first_row[t.expert + 1] - first_row[t.expert];
    const int units = (rows + kUnitRows - 1) / kUnitRows;
    const int begin = part * units / row_tiles * kUnitRows;
    const int end = (part + 1) * units / row_tiles * kUnitRows;
    t.row_begin = first_row[t.expert] + begin;
    t.rows = (end < rows ? end : rows) - begin;
    BLOCKMOE_CHECK(t.expert >= 0 && t.expert < experts && t.column >= 0 && t.column < columns);
    BLOCKMOE_CHECK(t.rows > 0 && t.rows <= most_rows && t.row_begin + t.rows <= first_row[t.expert + 1]);
    return t;
  }

 private:
  // Exclusive sum over the experts, by one warp.
  __device__ void number_row_tiles() {
    const int lane = static_cast<int>(threadIdx.x);
    int before = 0;
    for (int base = 0; base < experts; base += 32) {
      const int e = base + lane;
      const int rows = e < experts ? first_row[e + 1] - first_row[e] : 0;
      const int mine = (rows + most_rows - 1) / most_rows;
      int sum = mine;
      for (int distance = 1; distance < 32; distance *= 2) {
        const int other = __shfl_up_sync(0xffffffffu, sum, static_cast<unsigned>(distance));
        if (lane >= distance) sum += other;
      }
      if (e < experts) first_tile[e] = before + sum - mine;
      before += __shfl_sync(0xffffffffu, sum, 31);
    }
    if (lane == 0) first_tile[experts] = before;
  }

  // The expert with first_tile[e] <= row_tile < first_tile[e + 1].
  __device__ int expert_of(int row_tile) const {
    int low = 0;
    int high = experts;
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      if (first_tile[middle] <= row_tile) {
        low = middle;
      } else {
        high = middle;
      }
    }
    return low;
  }
};

}  // namespace blockmoe::kernels::portable
