// TRTLLM's batched-GEMM kernels, of the package that this was built with: which are listed and chosen, and that their cubins are the
// listed ones. Without a GPU.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "blackwell/products.h"
#include "blackwell/trtllm/configs.h"
#include "blackwell/trtllm/cubin_file.h"
#include "blackwell/trtllm/modules.h"

namespace blockmoe::test {
namespace {

namespace blackwell = kernels::blackwell;
namespace trtllm = blackwell::trtllm;
using blackwell::Product;

constexpr std::int32_t kTiles[] = {8, 16, 32, 64, 128};

kernels::Request request_of(std::int32_t compute_capability) {
  kernels::Request request;  // DeepSeek-V3's layer
  request.max_tokens = 4096;
  request.device = {compute_capability, 148, 227 * 1024};
  return request;
}

std::string why_not_on(const kernels::Request& request) {
  std::string why_not;
  return blackwell::trtllm_entry().supports(request, &why_not) ? "" : why_not;
}

TEST(Trtllm, gives_bf16_in_tiles_of_the_original) {
  const blackwell::ProductEntry entry = blackwell::trtllm_entry();
  EXPECT_EQ(blackwell::Implementation::trtllm, entry.implementation);
  EXPECT_EQ(64, entry.row_padding(request_of(100)));
  EXPECT_TRUE(entry.gives(kernels::plan::RowType::bf16));
  EXPECT_FALSE(entry.gives(kernels::plan::RowType::f32));
}

TEST(Trtllm, an_index_out_of_range_is_refused) {
  for (const std::int32_t index : {-1, trtllm::config_count(), 1404}) {
    std::string why_not;
    EXPECT_EQ(nullptr, trtllm::config_at(index, &why_not));
    EXPECT_NE("", why_not);
    why_not.clear();
    EXPECT_EQ(nullptr, trtllm::checked_cubin(index, &why_not));
    EXPECT_NE("", why_not);
    trtllm::Arguments arguments;
    why_not.clear();
    EXPECT_FALSE(trtllm::make_arguments(index, 4096, 7168, 32, &arguments, &why_not));
    EXPECT_NE("", why_not);
  }
}

const trtllm::Config& config(std::int32_t index) {
  std::string why_not;
  const trtllm::Config* const found = trtllm::config_at(index, &why_not);
  EXPECT_NE(nullptr, found) << why_not;
  return *found;
}

TEST(Trtllm, every_tile_from_8_to_128_is_listed_and_no_kernel_twice) {
  std::set<std::string> functions;
  std::map<std::int32_t, int> of_tile;
  for (std::int32_t index = 0; index < trtllm::config_count(); ++index) {
    EXPECT_TRUE(functions.insert(config(index).function).second) << config(index).function;
    ++of_tile[config(index).tile];
  }
  for (const std::int32_t tile : kTiles) EXPECT_GT(of_tile[tile], 0) << tile;
  EXPECT_EQ(std::size(kTiles), of_tile.size());
}

// The names say the same as the options, by the package's own habit.
TEST(Trtllm, every_kernel_is_what_it_is_called) {
  for (std::int32_t index = 0; index < trtllm::config_count(); ++index) {
    const trtllm::Config& c = config(index);
    SCOPED_TRACE(c.function);
    const auto has = [&](const std::string& part) { return c.function.find(part) != std::string::npos; };
    EXPECT_TRUE(has("bmm_Bfloat16_E4m3E4m3_Fp32_t128x" + std::to_string(c.tile) + "x128"));
    for (const char* part : {"_TN_", "_transOut_", "_noShflA_", "_dsFp8_", "_bN_", "_dynB_sm100f"})
      EXPECT_TRUE(has(part)) << part;
    for (const char* part : {"swiGlu", "relu", "_ldgsts", "_tma_", "splitK"}) EXPECT_FALSE(has(part)) << part;
    EXPECT_EQ(c.unrolled, has("x128u2_"));
    EXPECT_EQ(c.persistent, !has("_schedS_"));
    EXPECT_EQ(0U, c.threads % 32);
    EXPECT_LE(c.threads, 1024U);
    EXPECT_LE(c.shared_bytes, 227U * 1024);
    EXPECT_EQ(64U, c.sha256.size());
  }
}

// checksums.txt comes with the package, and says of a file what the list says of a kernel.
TEST(Trtllm, every_cubin_is_there_has_the_listed_hash_and_the_published_one) {
  std::map<std::string, std::string> published;
  std::ifstream file(std::string(BUILT_WITH) + "/checksums.txt");
  for (std::string hash, name; file >> hash >> name;) published[name] = hash;
  ASSERT_FALSE(published.empty());
  for (std::int32_t index = 0; index < trtllm::config_count(); ++index) {
    const trtllm::Config& c = config(index);
    EXPECT_EQ(published[trtllm::cubin_name(c.function)], c.sha256) << c.function;
    std::vector<char> bytes;
    std::string why_not;
    EXPECT_TRUE(trtllm::read_cubin(BUILT_WITH, c.function, c.sha256, &bytes, &why_not)) << why_not;
    EXPECT_EQ("\177ELF", std::string(bytes.data(), std::min<std::size_t>(4, bytes.size())));
    // The kernel that is asked for is in it.
    EXPECT_NE(bytes.end(), std::search(bytes.begin(), bytes.end(), c.function.begin(), c.function.end()));
  }
}

TEST(Trtllm, each_product_of_deepseek_v3_has_a_kernel_of_every_tile) {
  for (const std::int32_t tile : kTiles) {
    for (const auto& [columns, depth] : {std::pair{4096, 7168}, std::pair{7168, 2048}}) {
      std::string why_not;
      const std::int32_t index = trtllm::choose_config(columns, depth, 32, tile, &why_not);
      ASSERT_GE(index, 0) << why_not;
      EXPECT_EQ(tile, config(index).tile);
      EXPECT_TRUE(config(index).persistent);
      EXPECT_TRUE(config(index).unrolled);
      const trtllm::Grid grid = trtllm::grid_of(index, columns, 77);
      EXPECT_EQ(static_cast<std::uint32_t>(columns / 128), grid.x);
      EXPECT_EQ(77U, grid.y);
      EXPECT_EQ(1U, grid.z);
    }
  }
}

TEST(Trtllm, an_odd_number_of_steps_of_k_is_not_taken_two_at_once) {
  std::string why_not;
  const std::int32_t index = trtllm::choose_config(256, 3 * 128, 4, 64, &why_not);
  ASSERT_GE(index, 0) << why_not;
  EXPECT_FALSE(config(index).unrolled);
}

TEST(Trtllm, no_kernel_is_refused_with_what_was_asked_for) {
  std::string why_not;
  EXPECT_EQ(-1, trtllm::choose_config(4096, 7168, 32, 24, &why_not));
  EXPECT_NE(std::string::npos, why_not.find("4096 x 7168 weights of 32 experts with tiles of 24 rows")) << why_not;
  EXPECT_EQ(-1, trtllm::choose_config(4096 + 64, 7168, 32, 64, &why_not));
  EXPECT_EQ(-1, trtllm::choose_config(4096, 7168 + 64, 32, 64, &why_not));
}

TEST(Trtllm, runs_where_sm_100f_does) {
  EXPECT_EQ("", why_not_on(request_of(100)));
  EXPECT_EQ("", why_not_on(request_of(103)));
  for (const std::int32_t other : {80, 90, 110, 120}) {
    EXPECT_EQ("compute capability " + std::to_string(other) + ", expected 100 or 103 (sm_100f)",
              why_not_on(request_of(other)));
  }
  const std::string gemm1 = blackwell::trtllm_entry().explain(request_of(100), Product::gemm1);
  EXPECT_NE(std::string::npos, gemm1.find("64 rows")) << gemm1;
  EXPECT_EQ(std::string::npos, gemm1.find('\n'));
}

TEST(Trtllm, a_call_that_may_not_use_every_multiprocessor_is_refused) {
  kernels::Request request = request_of(100);
  request.max_sms = 148;
  EXPECT_EQ("", why_not_on(request));
  request.max_sms = 147;
  EXPECT_EQ(0U, why_not_on(request).find("max_sms 147 of 148: "));
}

TEST(Trtllm, threads_that_ask_at_once_get_the_same_bytes) {
  std::vector<const std::vector<char>*> got(8, nullptr);
  std::vector<std::thread> threads;
  threads.reserve(got.size());
  for (auto& mine : got) {
    threads.emplace_back([&mine] {
      std::string why_not;
      mine = trtllm::checked_cubin(0, &why_not);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_NE(nullptr, got.front());
  for (const auto* mine : got) EXPECT_EQ(got.front(), mine);
}

TEST(Trtllm, without_a_gpu_nothing_is_loaded_and_nothing_breaks) {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess) GTEST_SKIP() << "a GPU is here";
  CUfunction kernel = nullptr;
  EXPECT_NE(CUDA_SUCCESS, trtllm::load_kernel(config(0), {}, &kernel));
  EXPECT_EQ(nullptr, kernel);
  trtllm::Arguments arguments;
  std::string why_not;
  EXPECT_FALSE(trtllm::make_arguments(0, 4096, 7168, 32, &arguments, &why_not));
  EXPECT_NE("", why_not);
  EXPECT_NE(CUDA_SUCCESS, trtllm::fill_arguments({}, {}, &arguments));
}

}  // namespace
}  // namespace blockmoe::test
