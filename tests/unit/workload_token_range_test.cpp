// workload_token_range_test.cpp: the sizes that a range stands for.
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "workload/token_range.hpp"

namespace blockmoe::workload {
namespace {

using Sizes = std::vector<std::int64_t>;

TEST(workload_token_range, a_range_is_every_size) {
  EXPECT_EQ(parse_token_range("1..5").value(), (Sizes{1, 2, 3, 4, 5}));
  EXPECT_EQ(parse_token_range("7..7").value(), (Sizes{7}));
}

TEST(workload_token_range, steps_have_one_factor_and_end_at_the_last_size) {
  EXPECT_EQ(parse_token_range("100..1600/4").value(), (Sizes{200, 400, 800, 1600}));
  EXPECT_EQ(parse_token_range("300..16384/1").value(), (Sizes{16384}));
  const Sizes sizes = parse_token_range("300..16384/64").value();
  ASSERT_EQ(sizes.size(), 64U);
  EXPECT_EQ(sizes.back(), 16384);
  double before = 300;
  for (const std::int64_t tokens : sizes) {
    EXPECT_NEAR(static_cast<double>(tokens) / before, 1.0645, 0.0035);  // (16384/300)^(1/64), and whole tokens
    before = static_cast<double>(tokens);
  }
}

TEST(workload_token_range, steps_that_round_to_one_size_are_one) {
  EXPECT_EQ(parse_token_range("1..5/4").value(), (Sizes{2, 3, 5}));  // 1.50, 2.24, 3.34, 5
}

TEST(workload_token_range, what_is_no_range_is_refused) {
  for (const char* text : {"",
                           "5",
                           "..",
                           "1..",
                           "..5",
                           "0..5",
                           "-1..5",
                           "5..1",
                           "1..5/",
                           "1..5/0",
                           "1..5/5",
                           "5..5/1",
                           "1..x",
                           "1...5",
                           "1/2..5",
                           "1..5 ",
                           "1..65537",
                           "1..100000/65537",
                           "1..1073741825",
                           "1..99999999999999999999"}) {
    EXPECT_EQ(parse_token_range(text).status().message(),
              "is \"" + std::string(text) +
                  "\", expected A..B or A..B/N, 1 <= A <= B <= 1073741824, 1 <= N <= B - A, at most 65536 sizes");
  }
}

}  // namespace
}  // namespace blockmoe::workload
