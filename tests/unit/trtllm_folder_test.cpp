// A folder of cubins in which one is cut short: the product is refused, and says of which file it does not hold what was listed. The
// folder is looked up once a process, so this is a program of its own.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "blackwell/products.h"
#include "blackwell/trtllm/configs.h"
#include "blackwell/trtllm/cubin_file.h"

namespace blockmoe::test {
namespace {

namespace blackwell = kernels::blackwell;
namespace trtllm = blackwell::trtllm;
namespace fs = std::filesystem;

TEST(TrtllmFolder, a_truncated_cubin_is_refused_with_its_file) {
  std::string why_not;
  const std::int32_t index = trtllm::choose_config(7168, 2048, 32, 64, &why_not);
  ASSERT_GE(index, 0) << why_not;
  const trtllm::Config& config = *trtllm::config_at(index, &why_not);

  const fs::path folder = fs::path(testing::TempDir()) / "blockmoe_truncated_cubin";
  fs::create_directories(folder);
  const fs::path cubin = folder / trtllm::cubin_name(config.function);
  fs::copy_file(fs::path(BUILT_WITH) / cubin.filename(), cubin, fs::copy_options::overwrite_existing);
  const auto bytes = fs::file_size(cubin);
  fs::resize_file(cubin, bytes - 1);
  ASSERT_EQ(0, setenv(trtllm::kFolderVariable, folder.c_str(), 1));

  kernels::Request request;  // DeepSeek-V3's layer
  request.max_tokens = 4096;
  request.device = {100, 148, 227 * 1024};
  EXPECT_FALSE(blackwell::trtllm_entry().supports(request, &why_not));
  EXPECT_EQ(0U, why_not.find(cubin.string() + ": sha256 ")) << why_not;
  EXPECT_NE(std::string::npos, why_not.find("(of " + std::to_string(bytes - 1) + " bytes), expected " + config.sha256))
      << why_not;
  fs::remove_all(folder);
}

}  // namespace
}  // namespace blockmoe::test
