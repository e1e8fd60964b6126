// Calls small enough for compute-sanitizer, on every backend of this GPU: tools/test_gpu.py runs these under each of its tools.
#include <cstdint>
#include <utility>
#include <vector>

#include "gpu_test.hpp"
#include "measure/gpu_call.hpp"
#include "verify/compare.hpp"
#include "verify/oracle.hpp"
#include "workload/inputs.hpp"

namespace blockmoe::test {
namespace {

using SanitizedTest = GpuTest;

struct Case {
  const char* name;
  std::int64_t tokens;
  contract::Geometry geometry;
  workload::Skew::Kind skew;
};

const Case kCases[] = {
    {"one token", 1, {128, 128, 8, 8, 2, 1, 1}, workload::Skew::Kind::even},
    {"a ragged batch", 37, {256, 128, 32, 8, 4, 4, 2}, workload::Skew::Kind::even},
    {"many rows an expert", 150, {128, 256, 8, 4, 3, 2, 2}, workload::Skew::Kind::even},
    {"all on one expert", 70, {128, 128, 16, 4, 2, 1, 1}, workload::Skew::Kind::all_on_one},
    {"none local", 40, {128, 128, 16, 4, 2, 1, 1}, workload::Skew::Kind::none_local},
};

TEST_F(SanitizedTest, small_calls_agree_with_the_oracle) {
  const DeviceInfo device = query_device({DeviceType::cuda, 0}).value();
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.name);
    workload::Workload row;
    row.tokens = c.tokens;
    row.geometry = c.geometry;
    workload::InputOptions draw;
    draw.profile = workload::Profile::model;
    draw.skew.kind = c.skew;
    draw.dataset_root.clear();
    auto inputs = workload::InputMaker(draw).make(row);
    ASSERT_TRUE(inputs.ok()) << inputs.status().message();
    verify::OracleOptions full;
    full.scope = verify::OracleScope::full;
    const auto oracle =
        verify::run_oracle(inputs.value().geometry, inputs.value().weights, inputs.value().activations, full);
    for (const Backend backend : {Backend::portable, Backend::hopper}) {
      Options options;
      options.backend = backend;
      if (!Plan::create(inputs.value().public_geometry(), c.tokens, device, options).ok()) continue;
      SCOPED_TRACE(backend == Backend::hopper ? "hopper" : "portable");
      auto call = measure::GpuCall::create(inputs.value(), device, options, measure::Fill::nothing);
      ASSERT_TRUE(call.ok()) << call.status().message();
      const Status status = call.value().enqueue(nullptr);
      ASSERT_TRUE(status.ok()) << status.message();
      const auto output = call.value().fetch_output();
      ASSERT_TRUE(output.ok()) << output.status().message();
      const auto result =
          verify::compare(oracle, output.value().data(), c.geometry.hidden, {}, verify::kTensorCoreGates);
      EXPECT_TRUE(result.within_gates) << result.fault;
    }
  }
}

}  // namespace
}  // namespace blockmoe::test
