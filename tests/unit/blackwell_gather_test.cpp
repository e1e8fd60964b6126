// The GPU's kernel that lays activations out in the order of the products' rows (kernels/blackwell/gather.cu), compiled for the host
// and run thread by thread.
#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "blackwell/gather.cu"  // device_on_host/ stands in for CUDA
#include "blackwell_oracle.hpp"

namespace blockmoe::test {
namespace {

namespace blackwell = kernels::blackwell;

void expect_gathered(const GatherCase& c) {
  const auto capacity = static_cast<std::size_t>(c.row_begin.back());
  std::vector<std::uint8_t> gathered(capacity * static_cast<std::size_t>(c.geometry.hidden), 0xff);
  std::vector<float> gathered_scale(static_cast<std::size_t>(c.geometry.hidden_blocks() * c.gathered_pitch), poison());
  std::vector<std::int32_t> padded_row(c.packed.pick_row.size(), -1);
  kernels::stages::Slab slab;
  slab.geometry = c.geometry;
  slab.activations.tokens = c.packed.tokens;
  slab.activations.hidden = c.hidden.data();
  slab.activations.hidden_pitch = c.hidden_pitch;
  slab.activations.hidden_scale = c.hidden_scale.data();
  slab.activations.hidden_scale_pitch = c.scale_pitch;
  slab.sizes.picks = c.packed.picks;
  slab.sms = 2;
  PackedChunk packed = c.packed;  // the workspace's pointers are not to const
  slab.workspace.chunks = &packed.chunk;
  slab.workspace.expert_begin = packed.expert_begin.data();
  slab.workspace.pick_expert = packed.pick_expert.data();
  slab.workspace.pick_row = packed.pick_row.data();
  std::vector<std::int32_t> row_begin = c.row_begin;
  std::int32_t pitch = c.gathered_pitch;
  blackwell::Workspace w;
  w.row_begin = row_begin.data();
  w.tables[0].scale_pitch = &pitch;
  w.hidden = gathered.data();
  w.hidden_scale = gathered_scale.data();
  w.pick_row = padded_row.data();
  ASSERT_TRUE(blackwell::launch_gather(slab, 0, w, c.row_begin.back(), nullptr).ok());
  c.expect(gathered, gathered_scale, padded_row);
}

TEST(BlackwellGather, every_count_pattern) {
  std::uint32_t seed = 0;
  for (const std::vector<std::int32_t>& counts : count_patterns()) {
    SCOPED_TRACE(described(counts));
    expect_gathered(GatherCase(counts, seed % 2 == 0 ? 4 : 64, seed));
    if (HasFailure()) return;
    ++seed;
  }
}

}  // namespace
}  // namespace blockmoe::test
