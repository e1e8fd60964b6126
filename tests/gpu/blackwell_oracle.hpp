// blackwell_oracle.hpp: what the kernels of kernels/blackwell that need no Blackwell must leave behind, by scalars on the host; and
// the calls to try them on. Shared by the unit tests, which run them on the host, and by the tests on a GPU.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "blackwell/products.h"
#include "blackwell/workspace.h"
#include "contract/geometry.h"
#include "plan/blackwell_policy.h"
#include "plan/sizes.h"
#include "stages/layout.h"

namespace blockmoe::test {

/// A float whose bits are all set, as DeviceArray fills its memory: nobody has written it.
float poison();

/// A chunk as pack leaves it, with `counts` rows of each expert. Its tokens begin at `token_begin` of a longer slab, and its rows at
/// row 0, as pack numbers them.
struct PackedChunk {
  std::vector<std::int32_t> counts;  // [L]
  std::int32_t picks = 1;            // P
  std::int32_t tokens = 1;           // T'
  kernels::stages::Chunk chunk;
  std::vector<std::int32_t> expert_begin;  // [L + 1]
  std::vector<std::int32_t> pick_expert;   // [T', P]
  std::vector<std::int32_t> pick_row;      // [T', P]
};

PackedChunk packed_chunk(const std::vector<std::int32_t>& counts, std::int32_t token_begin);

/// Rows of each expert, from none at all to all on one: what the kernels have to get right.
std::vector<std::vector<std::int32_t>> count_patterns();

/// "32 experts: 0 0 7 ...", for failures.
std::string described(const std::vector<std::int32_t>& counts);

/// A call of the argument kernel.
struct ArgumentCase {
  contract::Geometry geometry;
  PackedChunk packed;
  std::int32_t row_padding = 4;
  std::int64_t tokens = 1;  // T of the call
  kernels::plan::ImplementationRule rule;
  kernels::plan::TileTable tiles;
  kernels::plan::RowType gemm2_type = kernels::plan::RowType::f32;

  kernels::plan::Sizes sizes() const;
  std::int64_t row_capacity() const;
  /// Both products of the path's call on `workspace`. The weights are addresses that nobody reads.
  std::vector<kernels::blackwell::ProductCall> products(const kernels::blackwell::Workspace& workspace) const;
};

/// The same call by every policy; `number` varies how rows are padded, which tiles there are, T and the switches.
std::vector<ArgumentCase> argument_cases(const std::vector<std::int32_t>& counts, std::uint32_t number);

/// `tables` is `workspace` where the host can read it: the tables' contents, not the addresses that they hold.
void expect_arguments(const ArgumentCase& c, const kernels::blackwell::Workspace& workspace,
                      const kernels::blackwell::Workspace& tables);

/// A call of the gather kernel, and what it must leave; bytes that it must not write are 0xff.
struct GatherCase {
  contract::Geometry geometry;
  PackedChunk packed;
  std::int32_t row_padding = 4;
  std::int64_t hidden_pitch = 0;
  std::int64_t scale_pitch = 0;  // of hidden_scale
  std::vector<std::uint8_t> hidden;
  std::vector<float> hidden_scale;
  std::vector<std::int32_t> row_begin;  // [L + 1]
  std::int32_t gathered_pitch = 0;      // of gathered_scale

  GatherCase(const std::vector<std::int32_t>& counts, std::int32_t row_padding, std::uint32_t seed);
  void expect(const std::vector<std::uint8_t>& gathered, const std::vector<float>& gathered_scale,
              const std::vector<std::int32_t>& padded_row) const;
};

/// A call of SwiGLU, and what it must leave: rows beyond `rows` are poison, in and out.
struct SwigluCase {
  std::int64_t rows = 0;
  std::int64_t capacity = 1;
  std::int64_t scale_pitch = 0;
  std::int64_t intermediate = 128;
  bool gate_first = false;
  std::vector<float> gate_up;  // [capacity, 2I]
  std::vector<std::uint16_t> in_bf16() const;

  SwigluCase(std::int64_t rows, std::int64_t intermediate, bool gate_first, std::uint32_t seed);
  void expect(kernels::plan::RowType type, const std::vector<std::uint8_t>& inter,
              const std::vector<float>& inter_scale) const;
};

}  // namespace blockmoe::test
