// What is said where the build did not find TRTLLM's batched-GEMM kernels: no_configs.cpp stands in for what this build has.
#include <gtest/gtest.h>

#include <string>

#include "blackwell/products.h"
#include "blackwell/trtllm/configs.h"
#include "blackwell/trtllm/modules.h"

namespace blockmoe::test {
namespace {

namespace blackwell = kernels::blackwell;
namespace trtllm = blackwell::trtllm;

TEST(TrtllmAbsent, the_package_is_named) {
  const blackwell::ProductEntry entry = blackwell::trtllm_entry();
  kernels::Request request;
  request.max_tokens = 4096;
  for (const std::int32_t capability : {90, 100}) {
    request.device = {capability, 148, 227 * 1024};
    std::string why_not;
    EXPECT_FALSE(entry.supports(request, &why_not));
    EXPECT_NE(std::string::npos, why_not.find("package flashinfer-cubin (PyPI, 0.6.8.post1 or later)")) << why_not;
    EXPECT_NE(std::string::npos, entry.explain(request, blackwell::Product::gemm2).find("flashinfer-cubin"));
  }
}

TEST(TrtllmAbsent, no_index_is_in_range) {
  EXPECT_EQ(0, trtllm::config_count());
  for (const std::int32_t index : {-1, 0, 1}) {
    std::string why_not;
    EXPECT_EQ(nullptr, trtllm::config_at(index, &why_not));
    EXPECT_NE("", why_not);
    why_not.clear();
    EXPECT_EQ(nullptr, trtllm::checked_cubin(index, &why_not));
    EXPECT_NE("", why_not);
  }
}

}  // namespace
}  // namespace blockmoe::test
