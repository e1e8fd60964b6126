// Work that is done once in each context, with contexts made up.
#include "once_a_context.h"

#include <gtest/gtest.h>

#include <cstdint>

namespace blockmoe::test {
namespace {

using kernels::ContextId;
using kernels::Error;
using kernels::OnceAContext;

ContextId current;  // what the fake driver answers

class OnceAContextTest : public testing::Test {
 protected:
  OnceAContextTest() { current = 1; }

  // How often the work is done for another request.
  int times(std::int32_t variant = 0) {
    int count = 0;
    EXPECT_TRUE(once_.run(variant, [&] { return ++count, Error{}; }).ok());
    return count;
  }

  OnceAContext once_{[] { return current; }};
};

TEST_F(OnceAContextTest, work_is_done_once) {
  EXPECT_EQ(1, times());
  EXPECT_EQ(0, times());
}

TEST_F(OnceAContextTest, another_context_has_nothing_done) {
  times();
  current = 2;
  EXPECT_EQ(1, times());
  EXPECT_EQ(0, times());
  current = 1;
  EXPECT_EQ(0, times());
}

TEST_F(OnceAContextTest, each_variant_is_work_of_its_own) {
  EXPECT_EQ(1, times(3));
  EXPECT_EQ(1, times(5));
  EXPECT_EQ(0, times(3));
}

TEST_F(OnceAContextTest, what_failed_is_tried_again) {
  const Error failure{700, "pack"};
  EXPECT_EQ(700, once_.run(0, [&] { return failure; }).code);
  EXPECT_EQ(1, times());
  EXPECT_EQ(0, times());
}

TEST_F(OnceAContextTest, work_that_makes_the_context_counts_for_it) {
  current.reset();
  EXPECT_TRUE(once_.run(0, [] { return current = 7, Error{}; }).ok());
  EXPECT_EQ(0, times());
}

TEST_F(OnceAContextTest, without_a_context_nothing_is_taken_for_done) {
  current.reset();
  EXPECT_EQ(1, times());
  EXPECT_EQ(1, times());
}

}  // namespace
}  // namespace blockmoe::test
