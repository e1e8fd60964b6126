// The public headers as engines compile them: as C++17, before anything else was included. (Each on its own: see
// CMakeLists.txt. As C11: api_c_call.c.)
#include "blockmoe/blockmoe.h"
#include "blockmoe/blockmoe.hpp"

#include <gtest/gtest.h>

#include <cstddef>

static_assert(__cplusplus == 201703L, "tests/unit/CMakeLists.txt compiles this file as C++17");

namespace blockmoe::test {
namespace {

// What callers of version 0.1 were compiled with. Fields are added behind these, never before.
TEST(ApiHeaders, structs_begin_as_in_version_0_1) {
  EXPECT_EQ(offsetof(Geometry, topk_group) + sizeof(Geometry::topk_group), 40U);
  EXPECT_EQ(offsetof(Options, max_threads) + sizeof(Options::max_threads), 20U);
  EXPECT_EQ(offsetof(DeviceInfo, name) + sizeof(DeviceInfo::name), 88U);
  EXPECT_EQ(offsetof(Weights, gemm2_weights_scale) + sizeof(Tensor), 456U);
  EXPECT_EQ(offsetof(Activations, hidden_states_scale) + sizeof(Tensor), 272U);
  EXPECT_EQ(offsetof(PreroutedActivations, hidden_states_scale) + sizeof(Tensor), 360U);
}

TEST(ApiHeaders, frozen_types_have_the_size_of_version_0_1) {
  EXPECT_EQ(sizeof(Device), 8U);
  EXPECT_EQ(sizeof(Tensor), 88U);
  EXPECT_EQ(sizeof(WorkspaceNeed), 24U);
  EXPECT_EQ(sizeof(Workspace), 16U);
  EXPECT_EQ(sizeof(Pruning), 8U);
}

TEST(ApiHeaders, struct_size_is_set_by_the_initialiser) {
  EXPECT_EQ(Geometry().struct_size, sizeof(Geometry));
  EXPECT_EQ(Options().struct_size, sizeof(Options));
  EXPECT_EQ(DeviceInfo().struct_size, sizeof(DeviceInfo));
  EXPECT_EQ(Weights().struct_size, sizeof(Weights));
  EXPECT_EQ(Activations().struct_size, sizeof(Activations));
  EXPECT_EQ(PreroutedActivations().struct_size, sizeof(PreroutedActivations));
  EXPECT_EQ(EpOptions().struct_size, sizeof(EpOptions));
}

TEST(ApiHeaders, a_later_fields_place_is_never_padding_of_an_older_struct) {
  EXPECT_EQ(sizeof(Geometry), 40U);
  EXPECT_EQ(sizeof(Options), 56U);
  EXPECT_EQ(sizeof(DeviceInfo), 88U);
  EXPECT_EQ(sizeof(Weights), 456U);
  EXPECT_EQ(sizeof(Activations), 272U);
  EXPECT_EQ(sizeof(PreroutedActivations), 360U);
  EXPECT_EQ(sizeof(EpOptions), 56U);
}

TEST(ApiHeaders, tensors_describe_row_major_memory) {
  const Tensor t = Tensor::contiguous(nullptr, DType::float32, {}, {2, 3, 4});
  EXPECT_EQ(t.rank, 3);
  EXPECT_EQ(t.step(0), 12);
  EXPECT_EQ(t.step(1), 4);
  EXPECT_EQ(t.step(2), 1);
  const Tensor rows = Tensor::pitched(nullptr, DType::bfloat16, {DeviceType::cuda, 2}, 5, 6, 8);
  EXPECT_EQ(rows.dim(0), 5);
  EXPECT_EQ(rows.dim(1), 6);
  EXPECT_EQ(rows.step(0), 8);
  EXPECT_EQ(rows.step(1), 1);
  EXPECT_EQ(rows.device, (Device{DeviceType::cuda, 2}));
}

TEST(ApiHeaders, tensors_of_nonsense_are_made_without_overflow) {
  constexpr std::int64_t kHuge = std::int64_t{1} << 62;
  EXPECT_EQ(Tensor::contiguous(nullptr, DType::float32, {}, {kHuge, kHuge, kHuge}).rank, 3);
  EXPECT_EQ(Tensor::contiguous(nullptr, DType::float32, {}, {1, 1, 1, 1, 1}).rank, 5);
  const int64_t sizes[] = {kHuge, kHuge, 2, 3, 4};
  const blockmoe_tensor five = blockmoe_tensor_contiguous(nullptr, BLOCKMOE_FLOAT32, 0, 0, 5, sizes);
  EXPECT_EQ(five.rank, 5);
  EXPECT_EQ(five.shape[3], 3);
}

TEST(ApiHeaders, results_hold_a_value_or_a_reason) {
  const Result<int> value = 7;
  EXPECT_TRUE(value.ok());
  EXPECT_EQ(value.value(), 7);
  EXPECT_TRUE(value.status().ok());
  EXPECT_EQ(value.status().message(), "");
  const Result<int> reason = Status(StatusCode::unsupported, "not here");
  EXPECT_FALSE(reason.ok());
  EXPECT_EQ(reason.status().code(), StatusCode::unsupported);
  EXPECT_EQ(reason.status().message(), "not here");
}

}  // namespace
}  // namespace blockmoe::test
