// Callers of older and newer headers: structs that are shorter or longer than this version's.
#include <gtest/gtest.h>

#include <array>
#include <cstdint>

#include "api/sized_struct.hpp"
#include "api_call.hpp"

namespace {

// A struct that grew twice after its first version of 8 bytes.
struct Grown {
  std::uint32_t struct_size = sizeof(Grown);
  std::int32_t first = 1;
  std::int32_t second = 0;
  std::int32_t third = 0;
};

}  // namespace

template <>
inline constexpr std::uint32_t blockmoe::api::kFirstSize<Grown> = 8;

namespace blockmoe::test {
namespace {

// Bytes of a caller's struct of any version, with canaries behind them.
struct CallersBytes {
  alignas(Grown) std::array<std::int32_t, 8> words{};

  Grown& as_struct() { return *reinterpret_cast<Grown*>(words.data()); }
};

TEST(ApiStruct, an_older_one_gets_defaults_for_what_it_lacks) {
  CallersBytes caller = {{8, 5, 77, 78}};
  Grown read;
  ASSERT_TRUE(api::read_struct("grown", caller.as_struct(), &read).ok());
  EXPECT_EQ(read.first, 5);
  EXPECT_EQ(read.second, 0);
  EXPECT_EQ(read.third, 0);
  EXPECT_EQ(read.struct_size, sizeof(Grown));
}

TEST(ApiStruct, each_version_in_between_is_read_as_far_as_it_goes) {
  CallersBytes caller = {{12, 5, 6, 78}};
  Grown read;
  ASSERT_TRUE(api::read_struct("grown", caller.as_struct(), &read).ok());
  EXPECT_EQ(read.first, 5);
  EXPECT_EQ(read.second, 6);
  EXPECT_EQ(read.third, 0);
}

TEST(ApiStruct, a_newer_one_is_read_when_its_unknown_fields_are_zero) {
  CallersBytes caller = {{24, 5, 6, 7, 0, 0, 99}};
  Grown read;
  ASSERT_TRUE(api::read_struct("grown", caller.as_struct(), &read).ok());
  EXPECT_EQ(read.first, 5);
  EXPECT_EQ(read.third, 7);
}

TEST(ApiStruct, a_newer_one_with_an_unknown_field_set_is_unsupported) {
  CallersBytes caller = {{24, 5, 6, 7, 0, 1, 0}};
  Grown read;
  const Status status = api::read_struct("grown", caller.as_struct(), &read);
  EXPECT_EQ(status.code(), StatusCode::unsupported);
  EXPECT_EQ(read.first, 1);
}

TEST(ApiStruct, no_version_is_shorter_than_the_first_longer_than_a_page_or_of_odd_size) {
  for (const std::int32_t size : {0, 4, 7, 9, 4100, -1}) {
    CallersBytes caller = {{size, 5}};
    Grown read;
    EXPECT_EQ(api::read_struct("grown", caller.as_struct(), &read).code(), StatusCode::invalid_argument) << size;
    EXPECT_EQ(api::write_struct("grown", read, &caller.as_struct()).code(), StatusCode::invalid_argument) << size;
    EXPECT_EQ(caller.words, (CallersBytes{{size, 5}}.words)) << size;
  }
}

TEST(ApiStruct, is_written_no_further_than_the_caller_knows_it) {
  CallersBytes caller = {{12, 0, 0, 78, 79}};
  const Grown written = {sizeof(Grown), 5, 6, 7};
  ASSERT_TRUE(api::write_struct("grown", written, &caller.as_struct()).ok());
  EXPECT_EQ(caller.words, (CallersBytes{{12, 5, 6, 78, 79}}.words));
}

TEST(ApiStruct, is_written_no_further_than_the_library_knows_it) {
  CallersBytes caller = {{24, 0, 0, 0, 0, 0, 99}};
  const Grown written = {sizeof(Grown), 5, 6, 7};
  ASSERT_TRUE(api::write_struct("grown", written, &caller.as_struct()).ok());
  EXPECT_EQ(caller.words, (CallersBytes{{24, 5, 6, 7, 0, 0, 99}}.words));
}

// Through the public API, each struct as a later version may make it: longer, with zeros.
template <typename T>
struct Later {
  T known;
  std::array<std::uint64_t, 4> added{};

  explicit Later(const T& from) : known(from) {
    static_assert(offsetof(Later, added) % 8 == 0);
    known.struct_size = sizeof(Later);
  }
};

TEST(ApiStruct, of_a_later_version_passes_every_entry) {
  reset_fakes();
  const Call call;
  const Later options(call.options);
  const Later geometry(call.geometry);
  const Later device(call.device);
  const Later weights(call.weights);
  const Later activations(call.activations);
  const Result<Plan> plan = Plan::create(geometry.known, 16, device.known, options.known);
  ASSERT_TRUE(plan.ok()) << plan.status().message();
  const Result<BoundPlan> bound = plan.value().bind(weights.known);
  ASSERT_TRUE(bound.ok()) << bound.status().message();
  const Status status = bound.value().run(activations.known, call.output, call.workspace);
  EXPECT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(fakes().runs, 1);
}

}  // namespace
}  // namespace blockmoe::test
