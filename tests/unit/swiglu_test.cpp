// SwiGLU as a stage of its own (kernels/stages/swiglu.cu), compiled for the host and run thread by thread: the contract's bits.
#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "blackwell_oracle.hpp"
#include "stages/swiglu.cu"  // device_on_host/ stands in for CUDA

namespace blockmoe::test {
namespace {

namespace plan = kernels::plan;

void expect_swiglu(const SwigluCase& c, plan::RowType type) {
  std::vector<std::uint8_t> inter(static_cast<std::size_t>(c.capacity * c.intermediate), 0xff);
  std::vector<float> inter_scale(static_cast<std::size_t>(c.intermediate / 128 * c.scale_pitch), poison());
  const std::vector<std::uint16_t> narrow = c.in_bf16();
  const auto rows = static_cast<std::int32_t>(c.rows);
  const auto pitch = static_cast<std::int32_t>(c.scale_pitch);
  kernels::stages::SwigluCall call;
  call.gate_up = type == plan::RowType::f32 ? static_cast<const void*>(c.gate_up.data()) : narrow.data();
  call.type = type;
  call.intermediate = c.intermediate;
  call.up_column = c.gate_first ? c.intermediate : 0;
  call.gate_column = c.gate_first ? 0 : c.intermediate;
  call.rows = &rows;
  call.scale_pitch = &pitch;
  call.row_capacity = c.capacity;
  call.inter = inter.data();
  call.inter_scale = inter_scale.data();
  call.sms = 1;
  ASSERT_TRUE(kernels::stages::launch_swiglu(call, nullptr).ok());
  c.expect(type, inter, inter_scale);
}

TEST(Swiglu, gives_the_contracts_bits_in_both_types_and_orders) {
  std::uint32_t seed = 0;
  for (const std::int64_t rows : {0, 1, 2, 7, 40}) {
    for (const std::int64_t intermediate : {128, 384}) {
      for (const bool gate_first : {false, true}) {
        SCOPED_TRACE(std::to_string(rows) + " rows, I " + std::to_string(intermediate));
        const SwigluCase c(rows, intermediate, gate_first, ++seed);
        for (const plan::RowType type : {plan::RowType::f32, plan::RowType::bf16}) expect_swiglu(c, type);
        if (HasFatalFailure()) return;
      }
    }
  }
}

}  // namespace
}  // namespace blockmoe::test
