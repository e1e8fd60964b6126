// Devices asked and described.
#include <gtest/gtest.h>
#include <sched.h>

#include <string>

#include "blockmoe/blockmoe.hpp"

namespace blockmoe::test {
namespace {

TEST(ApiDevice, the_cpu_has_the_threads_that_the_process_may_run_on) {
  cpu_set_t before;
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  EXPECT_EQ(query_device({}).value().sm_count, CPU_COUNT(&before));

  int first = 0;
  while (!CPU_ISSET(first, &before)) ++first;
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(first, &one);
  ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
  EXPECT_EQ(query_device({}).value().sm_count, 1);
  ASSERT_EQ(sched_setaffinity(0, sizeof before, &before), 0);
}

TEST(ApiDevice, the_cpu_has_a_name_and_no_gpu_figures) {
  const DeviceInfo info = query_device({}).value();
  EXPECT_EQ(info.device, Device());
  EXPECT_NE(std::string(info.name), "");
  EXPECT_EQ(info.compute_capability, 0);
  EXPECT_EQ(info.shared_memory_per_block, 0);
  EXPECT_EQ(describe_device("cpu").value().sm_count, info.sm_count);
}

TEST(ApiDevice, there_is_one_cpu) {
  EXPECT_EQ(query_device({DeviceType::cpu, 1}).status().message(),
            "device.index: 1, expected 0 (the CPU is one device)");
  EXPECT_EQ(query_device({DeviceType::cuda, -1}).status().message(), "device.index: -1, expected 0 or more");
  EXPECT_EQ(query_device({DeviceType{5}, 0}).status().message(), "device.type: 5, expected cpu (0) or cuda (1)");
}

TEST(ApiDevice, a_gpu_that_is_not_there_is_unsupported) {
  // No machine has so many, and a build without GPU backends knows none.
  const Status status = query_device({DeviceType::cuda, 4096}).status();
  EXPECT_EQ(status.code(), StatusCode::unsupported);
  EXPECT_EQ(status.message().rfind("device: cuda:4096", 0), 0U) << status.message();
}

TEST(ApiDevice, gpus_are_described_by_architecture) {
  struct Row {
    const char* name;
    std::int32_t compute_capability;
    std::int32_t sm_count;
    std::int32_t shared_memory;
  };
  const Row rows[] = {{"sm_80", 80, 108, 166912},    {"sm_86", 86, 84, 101376},     {"sm_89", 89, 142, 101376},
                      {"sm_90", 90, 132, 232448},    {"sm_90a", 90, 132, 232448},   {"sm_100", 100, 148, 232448},
                      {"sm_100a", 100, 148, 232448}, {"sm_100f", 100, 148, 232448}, {"sm_103a", 103, 148, 232448},
                      {"sm_120", 120, 188, 101376},  {"sm_120a", 120, 188, 101376}, {"sm_121", 121, 48, 101376}};
  for (const Row& row : rows) {
    const Result<DeviceInfo> info = describe_device(row.name);
    ASSERT_TRUE(info.ok()) << info.status().message();
    EXPECT_EQ(info.value().device, (Device{DeviceType::cuda, 0})) << row.name;
    EXPECT_EQ(info.value().compute_capability, row.compute_capability) << row.name;
    EXPECT_EQ(info.value().sm_count, row.sm_count) << row.name;
    EXPECT_EQ(info.value().shared_memory_per_block, row.shared_memory) << row.name;
    EXPECT_TRUE(std::string(info.value().name).ends_with(", described")) << row.name;
  }
}

TEST(ApiDevice, unknown_names_are_refused) {
  for (const char* name : {"", "sm_", "sm_70", "sm_80a", "sm_90f", "sm_90aa", "sm_1000", "SM_90", "cuda"}) {
    EXPECT_EQ(
        describe_device(name).status().message(),
        "name: \"" + std::string(name) +
            "\", expected cpu, sm_80, sm_86, sm_87, sm_89, sm_90, sm_100, sm_103, sm_120, sm_121 (with the suffix "
            "a or f where that exists)");
  }
}

}  // namespace
}  // namespace blockmoe::test
