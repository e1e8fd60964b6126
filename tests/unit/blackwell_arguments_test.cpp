// The GPU's kernel that makes the products' arguments (kernels/blackwell/arguments.cu), compiled for the host and run thread by thread,
// against the host's oracle: every count pattern, every policy.
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

#include "blackwell/arguments.cu"  // device_on_host/ stands in for CUDA
#include "blackwell_oracle.hpp"

namespace blockmoe::test {
namespace {

namespace blackwell = kernels::blackwell;

TEST(BlackwellArguments, every_count_pattern_by_every_policy) {
  std::uint32_t number = 0;
  for (const std::vector<std::int32_t>& counts : count_patterns()) {
    SCOPED_TRACE(described(counts));
    for (const ArgumentCase& c : argument_cases(counts, number++)) {
      const std::size_t bytes = blackwell::workspace_at(nullptr, c.geometry, c.sizes(), c.row_padding, 0).bytes;
      const std::unique_ptr<void, decltype(&std::free)> memory(std::aligned_alloc(256, bytes), std::free);
      const auto w = blackwell::workspace_at(memory.get(), c.geometry, c.sizes(), c.row_padding, 0);
      const auto products = c.products(w);
      blackwell::ArgumentCall call;
      call.chunk = &c.packed.chunk;
      call.expert_begin = c.packed.expert_begin.data();
      call.rule = c.rule;
      call.products = products.data();
      call.workspace = w;
      ASSERT_TRUE(blackwell::launch_arguments(call, nullptr).ok());
      expect_arguments(c, w, w);
      if (HasFatalFailure()) return;
    }
  }
}

}  // namespace
}  // namespace blockmoe::test
