// Modules of cubins: loaded once a context, whoever asks. The module is PTX of the test's own, which the driver takes as well.
#include <cuda.h>
#include <cudaTypedefs.h>

#include <string>
#include <thread>
#include <vector>

#include "blackwell/trtllm/driver_calls.h"
#include "blackwell/trtllm/modules.h"
#include "device_array.h"
#include "gpu_test.hpp"

namespace blockmoe::test {
namespace {

namespace trtllm = kernels::blackwell::trtllm;

using TrtllmModulesTest = GpuTest;

// store(at): *at = 7.
constexpr const char* kPtx = R"(
.version 7.0
.target sm_80
.address_size 64
.visible .entry store(.param .u64 at) {
  .reg .b64 %address;
  .reg .b32 %seven;
  ld.param.u64 %address, [at];
  mov.u32 %seven, 7;
  st.global.u32 [%address], %seven;
  ret;
}
)";

std::vector<char> bytes_of(const std::string& text) {
  return {text.c_str(), text.c_str() + text.size() + 1};
}

trtllm::Config config_named(const char* function, const char* sha256) {
  trtllm::Config config;
  config.function = function;
  config.sha256 = sha256;
  config.shared_bytes = 60 * 1024;  // more than a kernel has without asking
  return config;
}

TEST_F(TrtllmModulesTest, a_kernel_is_loaded_once_and_runs_with_the_shared_memory_listed) {
  ASSERT_EQ(cudaSuccess, cudaFree(nullptr));  // makes the context
  const trtllm::Config config = config_named("store", "once");
  std::vector<CUfunction> kernels(8, nullptr);
  std::vector<std::thread> threads;
  threads.reserve(kernels.size());
  for (CUfunction& kernel : kernels) {
    threads.emplace_back([&] {
      EXPECT_EQ(cudaSuccess, cudaSetDevice(0));
      EXPECT_EQ(CUDA_SUCCESS, trtllm::load_kernel(config, bytes_of(kPtx), &kernel));
    });
  }
  for (std::thread& thread : threads) thread.join();
  ASSERT_NE(nullptr, kernels.front());
  for (const CUfunction kernel : kernels) EXPECT_EQ(kernels.front(), kernel);

  const DeviceArray<std::int32_t> out(1);
  std::int32_t* at = out.get();
  void* parameters[] = {&at};
  CUlaunchConfig shape = {};
  shape.gridDimX = shape.gridDimY = shape.gridDimZ = shape.blockDimX = shape.blockDimY = shape.blockDimZ = 1;
  shape.sharedMemBytes = config.shared_bytes;
  static kernels::DriverFunction<PFN_cuLaunchKernelEx_v11060> launch("cuLaunchKernelEx", 11060);
  ASSERT_EQ(CUDA_SUCCESS, trtllm::call_driver(launch, static_cast<const CUlaunchConfig*>(&shape), kernels.front(),
                                              static_cast<void**>(parameters), static_cast<void**>(nullptr)));
  EXPECT_EQ(std::vector<std::int32_t>{7}, out.host());
}

TEST_F(TrtllmModulesTest, what_is_no_module_or_lacks_the_kernel_is_refused_each_time) {
  ASSERT_EQ(cudaSuccess, cudaFree(nullptr));
  for (int i = 0; i < 2; ++i) {
    CUfunction kernel = nullptr;
    EXPECT_NE(CUDA_SUCCESS, trtllm::load_kernel(config_named("store", "no module"), bytes_of("no module"), &kernel));
    EXPECT_EQ(CUDA_ERROR_NOT_FOUND,
              trtllm::load_kernel(config_named("restore", "no such kernel"), bytes_of(kPtx), &kernel));
    EXPECT_EQ(nullptr, kernel);
  }
}

}  // namespace
}  // namespace blockmoe::test
