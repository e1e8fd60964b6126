// What Blackwell's products stand on, on any GPU, bit for bit against the host's oracle: the argument kernel and the gather, every
// count pattern from empty to all on one expert; SwiGLU as a stage of its own.
#include <cstdint>
#include <vector>

#include "blackwell/arguments.h"
#include "blackwell/gather.h"
#include "blackwell_oracle.hpp"
#include "device_array.h"
#include "gpu_test.hpp"
#include "stages/swiglu.h"

namespace blockmoe::test {
namespace {

namespace blackwell = kernels::blackwell;
namespace plan = kernels::plan;

using BlackwellTest = GpuTest;

TEST_F(BlackwellTest, arguments_of_every_count_pattern_by_every_policy) {
  std::uint32_t number = 0;
  for (const std::vector<std::int32_t>& counts : count_patterns()) {
    SCOPED_TRACE(described(counts));
    for (const ArgumentCase& c : argument_cases(counts, number++)) {
      const auto at = [&](void* base) {
        return blackwell::workspace_at(base, c.geometry, c.sizes(), c.row_padding, 0);
      };
      const DeviceArray<std::uint8_t> memory(at(nullptr).bytes);
      const blackwell::Workspace w = at(memory.get());
      const DeviceArray<kernels::stages::Chunk> chunk(std::vector<kernels::stages::Chunk>{c.packed.chunk});
      const DeviceArray<std::int32_t> expert_begin(c.packed.expert_begin);
      const auto products = c.products(w);
      blackwell::ArgumentCall call;
      call.chunk = chunk.get();
      call.expert_begin = expert_begin.get();
      call.rule = c.rule;
      call.products = products.data();
      call.workspace = w;
      ASSERT_TRUE(blackwell::launch_arguments(call, nullptr).ok());
      std::vector<std::uint8_t> found = memory.host();
      expect_arguments(c, w, at(found.data()));
      if (HasFatalFailure()) return;
    }
  }
}

TEST_F(BlackwellTest, gathered_rows_of_every_count_pattern) {
  std::uint32_t seed = 0;
  for (const std::vector<std::int32_t>& counts : count_patterns()) {
    SCOPED_TRACE(described(counts));
    const GatherCase c(counts, seed % 2 == 0 ? 4 : 64, seed);
    ++seed;
    const DeviceArray<std::uint8_t> hidden(c.hidden);
    const DeviceArray<float> hidden_scale(c.hidden_scale);
    const DeviceArray<kernels::stages::Chunk> chunk(std::vector<kernels::stages::Chunk>{c.packed.chunk});
    const DeviceArray<std::int32_t> expert_begin(c.packed.expert_begin), pick_expert(c.packed.pick_expert);
    const DeviceArray<std::int32_t> pick_row(c.packed.pick_row), row_begin(c.row_begin);
    const DeviceArray<std::int32_t> pitch(std::vector<std::int32_t>{c.gathered_pitch});
    const auto rows = static_cast<std::size_t>(c.row_begin.back());
    const DeviceArray<std::uint8_t> gathered(rows * static_cast<std::size_t>(c.geometry.hidden));
    const DeviceArray<float> gathered_scale(static_cast<std::size_t>(c.geometry.hidden_blocks() * c.gathered_pitch));
    const DeviceArray<std::int32_t> padded_row(c.packed.pick_row.size());
    kernels::stages::Slab slab;
    slab.geometry = c.geometry;
    slab.activations.tokens = c.packed.tokens;
    slab.activations.hidden = hidden.get();
    slab.activations.hidden_pitch = c.hidden_pitch;
    slab.activations.hidden_scale = hidden_scale.get();
    slab.activations.hidden_scale_pitch = c.scale_pitch;
    slab.sizes.picks = c.packed.picks;
    slab.sms = 3;
    slab.workspace.chunks = chunk.get();
    slab.workspace.expert_begin = expert_begin.get();
    slab.workspace.pick_expert = pick_expert.get();
    slab.workspace.pick_row = pick_row.get();
    blackwell::Workspace w;
    w.row_begin = row_begin.get();
    w.tables[0].scale_pitch = pitch.get();
    w.hidden = gathered.get();
    w.hidden_scale = gathered_scale.get();
    w.pick_row = padded_row.get();
    ASSERT_TRUE(blackwell::launch_gather(slab, 0, w, c.row_begin.back(), nullptr).ok());
    c.expect(gathered.host(), gathered_scale.host(), padded_row.host());
    if (HasFailure()) return;
  }
}

TEST_F(BlackwellTest, swiglu_gives_the_contracts_bits) {
  std::uint32_t seed = 0;
  for (const std::int64_t rows : {0, 1, 2, 63, 64, 1000}) {
    for (const std::int64_t intermediate : {128, 384, 2048}) {
      for (const plan::RowType type : {plan::RowType::f32, plan::RowType::bf16}) {
        SCOPED_TRACE(std::to_string(rows) + " rows, I " + std::to_string(intermediate));
        const SwigluCase c(rows, intermediate, seed % 2 == 1, seed);
        ++seed;
        const DeviceArray<float> wide(c.gate_up);
        const DeviceArray<std::uint16_t> narrow(c.in_bf16());
        const DeviceArray<std::int32_t> sizes(
            std::vector<std::int32_t>{static_cast<std::int32_t>(c.rows), static_cast<std::int32_t>(c.scale_pitch)});
        const DeviceArray<std::uint8_t> inter(static_cast<std::size_t>(c.capacity * c.intermediate));
        const DeviceArray<float> inter_scale(static_cast<std::size_t>(c.intermediate / 128 * c.scale_pitch));
        kernels::stages::SwigluCall call;
        call.gate_up = type == plan::RowType::f32 ? static_cast<const void*>(wide.get()) : narrow.get();
        call.type = type;
        call.intermediate = c.intermediate;
        call.up_column = c.gate_first ? c.intermediate : 0;
        call.gate_column = c.gate_first ? 0 : c.intermediate;
        call.rows = sizes.get();
        call.scale_pitch = sizes.get() + 1;
        call.row_capacity = c.capacity;
        call.inter = inter.get();
        call.inter_scale = inter_scale.get();
        call.sms = 2;
        ASSERT_TRUE(kernels::stages::launch_swiglu(call, nullptr).ok());
        c.expect(type, inter.host(), inter_scale.host());
        if (HasFatalFailure()) return;
      }
    }
  }
}

}  // namespace
}  // namespace blockmoe::test
