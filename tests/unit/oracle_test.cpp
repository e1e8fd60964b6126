// oracle_test.cpp: the FP64 oracle against the definition written out as loops over scalars.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <set>
#include <span>
#include <vector>

#include "random_call.hpp"
#include "verify/e4m3_oracle.hpp"
#include "verify/expert_oracle.hpp"
#include "verify/oracle.hpp"

namespace blockmoe::verify {
namespace {

using test::CallRecipe;
using test::RandomCall;

struct NaiveRows {
  std::vector<double> requantised;  // [T, H]
  std::vector<double> plain;        // [T, H]
};

/// The layer for calls without ties, NaN or numbers out of fp32's range.
class Naive {
 public:
  explicit Naive(const RandomCall& call) : call_(call), g_(call.geometry()) {}

  NaiveRows run() const {
    const auto elements = static_cast<std::size_t>(call_.activations().tokens * g_.hidden);
    NaiveRows rows{std::vector<double>(elements), std::vector<double>(elements)};
    for (std::int64_t t = 0; t < call_.activations().tokens; ++t) {
      for (const auto& [expert, weight] : picks(t)) add(t, expert, weight, rows);
    }
    return rows;
  }

  std::vector<std::pair<std::int32_t, double>> picks(std::int64_t t) const {
    std::vector<double> s;
    std::vector<double> b;
    for (std::int32_t e = 0; e < g_.experts; ++e) {
      const double logit = call_.logits()[static_cast<std::size_t>(t * g_.experts + e)];
      s.push_back(1.0 / (1.0 + std::exp(-logit)));
      b.push_back(s.back() + static_cast<double>(call_.bias()[static_cast<std::size_t>(e)]));
    }
    const auto best = [](std::vector<std::int32_t> numbers, const std::vector<double>& scores, std::int32_t count) {
      std::sort(numbers.begin(), numbers.end(), [&](std::int32_t x, std::int32_t y) {
        const double of_x = scores[static_cast<std::size_t>(x)];
        const double of_y = scores[static_cast<std::size_t>(y)];
        return of_x != of_y ? of_x > of_y : x < y;
      });
      numbers.resize(static_cast<std::size_t>(count));
      return numbers;
    };
    std::vector<std::int32_t> groups(static_cast<std::size_t>(g_.n_group));
    std::iota(groups.begin(), groups.end(), 0);
    std::vector<double> group_scores;
    for (const std::int32_t group : groups) {
      const auto begin = b.begin() + group * g_.experts_per_group();
      std::vector<double> members(begin, begin + g_.experts_per_group());
      std::sort(members.rbegin(), members.rend());
      group_scores.push_back(members.size() > 1 ? members[0] + members[1] : members[0]);
    }
    std::vector<std::int32_t> eligible;
    for (const std::int32_t group : best(groups, group_scores, g_.topk_group)) {
      for (std::int32_t i = 0; i < g_.experts_per_group(); ++i) {
        eligible.push_back(group * g_.experts_per_group() + i);
      }
    }
    std::sort(eligible.begin(), eligible.end());
    const std::vector<std::int32_t> chosen = best(eligible, b, g_.top_k);
    double sum = 1e-20;
    for (const std::int32_t e : chosen) sum += s[static_cast<std::size_t>(e)];
    std::vector<std::pair<std::int32_t, double>> picks;
    picks.reserve(chosen.size());
    for (const std::int32_t e : chosen) {
      picks.emplace_back(e, s[static_cast<std::size_t>(e)] / sum * call_.weights().routed_scaling_factor);
    }
    return picks;
  }

 private:
  double hidden(std::int64_t t, std::int64_t k) const {
    const contract::Activations& a = call_.activations();
    return e4m3_values()[a.hidden[t * a.hidden_pitch + k]] * a.hidden_scale[k / 128 * a.hidden_scale_pitch + t];
  }
  double w13(std::int64_t expert, std::int64_t row, std::int64_t k) const {
    const std::int64_t r = expert * 2 * g_.intermediate + row;
    return e4m3_values()[call_.weights().w13[r * g_.hidden + k]] *
           call_.weights().w13_scale[r / 128 * g_.hidden_blocks() + k / 128];
  }
  double w2(std::int64_t expert, std::int64_t row, std::int64_t k) const {
    const std::int64_t r = expert * g_.hidden + row;
    return e4m3_values()[call_.weights().w2[r * g_.intermediate + k]] *
           call_.weights().w2_scale[r / 128 * g_.intermediate_blocks() + k / 128];
  }

  std::vector<double> activated(std::int64_t t, std::int64_t expert) const {
    std::vector<double> values;
    for (std::int64_t i = 0; i < g_.intermediate; ++i) {
      double up = 0.0;
      double gate = 0.0;
      const std::int64_t first_up = call_.weights().gate_first ? g_.intermediate : 0;
      const std::int64_t first_gate = g_.intermediate - first_up;
      for (std::int64_t k = 0; k < g_.hidden; ++k) {
        up += hidden(t, k) * w13(expert, first_up + i, k);
        gate += hidden(t, k) * w13(expert, first_gate + i, k);
      }
      values.push_back(gate / (1.0 + std::exp(-gate)) * up);
    }
    return values;
  }

  static double nearest_e4m3(double x) {
    double nearest = 0.0;
    for (int code = 0; code < 256; code += 1) {
      const double value = e4m3_values()[static_cast<std::size_t>(code)];
      if (std::abs(x - value) < std::abs(x - nearest)) nearest = value;
    }
    return nearest;
  }

  static std::vector<double> requantise(std::vector<double> values) {
    for (std::size_t begin = 0; begin < values.size(); begin += 128) {
      double amax = 0.0;
      for (std::size_t i = begin; i < begin + 128; ++i) amax = std::max(amax, std::abs(values[i]));
      for (std::size_t i = begin; i < begin + 128; ++i)
        values[i] = nearest_e4m3(values[i] * 448.0 / amax) * amax / 448.0;
    }
    return values;
  }

  void add(std::int64_t t, std::int32_t global, double weight, NaiveRows& rows) const {
    const std::int64_t expert = std::int64_t{global} - call_.weights().local_expert_offset;
    if (expert < 0 || expert >= g_.local_experts) return;
    const std::vector<double> plain = activated(t, expert);
    const std::vector<double> requantised = requantise(plain);
    for (std::int64_t h = 0; h < g_.hidden; ++h) {
      double plain_sum = 0.0;
      double requantised_sum = 0.0;
      for (std::int64_t i = 0; i < g_.intermediate; ++i) {
        plain_sum += plain[static_cast<std::size_t>(i)] * w2(expert, h, i);
        requantised_sum += requantised[static_cast<std::size_t>(i)] * w2(expert, h, i);
      }
      rows.plain[static_cast<std::size_t>(t * g_.hidden + h)] += weight * plain_sum;
      rows.requantised[static_cast<std::size_t>(t * g_.hidden + h)] += weight * requantised_sum;
    }
  }

  const RandomCall& call_;
  const contract::Geometry& g_;
};

OracleResult full(const RandomCall& call, int threads = 2) {
  OracleOptions options;
  options.scope = OracleScope::full;
  options.threads = threads;
  return run_oracle(call.geometry(), call.weights(), call.activations(), options);
}

OracleResult sample(const RandomCall& call, std::uint64_t seed) {
  OracleOptions options;
  options.seed = seed;
  return run_oracle(call.geometry(), call.weights(), call.activations(), options);
}

/// Largest distance of two rows of values, in units of the largest value.
double distance(const double* x, const double* y, std::int64_t count) {
  double largest = 0.0;
  double error = 0.0;
  for (std::int64_t i = 0; i < count; ++i) {
    largest = std::max(largest, std::abs(x[i]));
    error = std::max(error, std::abs(x[i] - y[i]));
  }
  return error == 0.0 ? 0.0 : error / largest;
}

TEST(OracleE4m3, values_are_the_definition) {
  EXPECT_EQ(e4m3_values()[0x00], 0.0);
  EXPECT_EQ(e4m3_values()[0x01], 0x1p-9);
  EXPECT_EQ(e4m3_values()[0x07], 7 * 0x1p-9);
  EXPECT_EQ(e4m3_values()[0x08], 0x1p-6);
  EXPECT_EQ(e4m3_values()[0x38], 1.0);
  EXPECT_EQ(e4m3_values()[0x7e], 448.0);
  EXPECT_EQ(e4m3_values()[0xfe], -448.0);
  EXPECT_TRUE(std::isnan(e4m3_values()[0x7f]) && std::isnan(e4m3_values()[0xff]));
  for (std::size_t code = 1; code < 0x7f; ++code) {
    EXPECT_GT(e4m3_values()[code], e4m3_values()[code - 1]) << code;
    EXPECT_EQ(e4m3_values()[code + 0x80], -e4m3_values()[code]) << code;
  }
}

TEST(OracleE4m3, rounds_to_the_nearest_value_and_ties_to_the_even_code) {
  for (std::size_t code = 0; code + 1 < 0x7f; ++code) {
    const double lower = e4m3_values()[code];
    const double upper = e4m3_values()[code + 1];
    const double border = (lower + upper) / 2.0;
    EXPECT_EQ(round_to_e4m3(lower), lower);
    EXPECT_EQ(round_to_e4m3(border), code % 2 == 0 ? lower : upper) << border;
    EXPECT_EQ(round_to_e4m3(-border), code % 2 == 0 ? -lower : -upper) << border;
    EXPECT_EQ(round_to_e4m3(std::nextafter(border, 0.0)), lower) << border;
    EXPECT_EQ(round_to_e4m3(std::nextafter(border, 1e9)), upper) << border;
  }
  EXPECT_EQ(round_to_e4m3(1e300), 448.0);
  EXPECT_EQ(round_to_e4m3(-460.0), -448.0);
  EXPECT_TRUE(std::isnan(round_to_e4m3(std::nan(""))));
}

TEST(Oracle, rows_equal_the_loops_over_scalars) {
  for (std::uint64_t seed = 1; seed <= 12; ++seed) {
    CallRecipe recipe = test::random_recipe(seed);
    recipe.logits_type = contract::FloatType::f32;  // no ties
    recipe.tokens = std::min<std::int64_t>(recipe.tokens, 5);
    recipe.geometry.hidden = std::min<std::int64_t>(recipe.geometry.hidden, 256);
    recipe.geometry.intermediate = std::min<std::int64_t>(recipe.geometry.intermediate, 256);
    const RandomCall call(recipe);
    const OracleResult oracle = full(call);
    const NaiveRows naive = Naive(call).run();
    ASSERT_EQ(std::ssize(oracle.checked), recipe.tokens);
    for (std::int64_t t = 0; t < recipe.tokens; ++t) {
      const std::int64_t width = recipe.geometry.hidden;
      ASSERT_EQ(oracle.first_row[static_cast<std::size_t>(t)], t);
      EXPECT_LT(distance(naive.plain.data() + t * width, oracle.plain_row(t), width), 1e-9) << recipe;
      EXPECT_LT(distance(naive.requantised.data() + t * width, oracle.requantised_row(t), width), 1e-9) << recipe;
    }
  }
}

TEST(Oracle, many_rows_of_an_expert_equal_few) {
  CallRecipe recipe = test::random_recipe(3);
  recipe.geometry.hidden = 1280;  // more than one tile of K
  recipe.geometry.intermediate = 128;
  recipe.logits = test::Logits::one_expert;
  recipe.local_expert_offset = 0;
  recipe.tokens = 20;
  const RandomCall call(recipe);
  std::vector<std::int64_t> tokens(20);
  std::iota(tokens.begin(), tokens.end(), 0);
  const ScaledRows all = hidden_rows(call.geometry(), call.activations(), tokens);
  const Products together = gemm1_oracle(call.geometry(), call.weights(), 0, all);
  for (std::int64_t t = 0; t < 20; ++t) {
    const ScaledRows one = hidden_rows(call.geometry(), call.activations(), {&t, 1});
    const Products alone = gemm1_oracle(call.geometry(), call.weights(), 0, one);
    EXPECT_LT(distance(alone.values.data(), together.values.data() + t * 128, 128), 1e-12);
  }
}

TEST(Oracle, rows_do_not_depend_on_the_threads) {
  const RandomCall call(test::random_recipe(5));
  const OracleResult one = full(call, 1);
  const OracleResult three = full(call, 3);
  EXPECT_EQ(one.requantised, three.requantised);
  EXPECT_EQ(one.plain, three.plain);
}

ExpertRowProducts products_of(const RandomCall& call, std::span<const ExpertRow> rows) {
  ExpertRowProducts all;
  for (const ExpertRow& row : rows) {
    const ScaledRows hidden = hidden_rows(call.geometry(), call.activations(), {&row.token, 1});
    const Products activated = gemm1_oracle(call.geometry(), call.weights(), row.local_expert, hidden);
    const std::int64_t width = call.geometry().intermediate;
    const Products requantised =
        gemm2_oracle(call.geometry(), call.weights(), row.local_expert, requantise_rows(activated.values, width));
    const Products plain =
        gemm2_oracle(call.geometry(), call.weights(), row.local_expert, unscaled_rows(activated.values, width));
    all.requantised.insert(all.requantised.end(), requantised.values.begin(), requantised.values.end());
    all.plain.insert(all.plain.end(), plain.values.begin(), plain.values.end());
    all.out_of_range.push_back(activated.out_of_range[0] | requantised.out_of_range[0]);
  }
  return all;
}

TEST(Oracle, products_computed_elsewhere_give_the_same_rows) {
  for (const test::Scales scales : {test::Scales::normal, test::Scales::huge}) {
    CallRecipe recipe = test::random_recipe(11);
    recipe.local_expert_offset = 0;
    recipe.scales = scales;
    const RandomCall call(recipe);
    OracleOptions options;
    options.products = [&](std::span<const ExpertRow> rows) { return products_of(call, rows); };
    const OracleResult elsewhere = run_oracle(call.geometry(), call.weights(), call.activations(), options);
    const OracleResult here = full(call);
    ASSERT_GT(here.routing.rows, 0) << recipe;
    const auto count = static_cast<std::int64_t>(here.plain.size());
    ASSERT_EQ(elsewhere.plain.size(), here.plain.size());
    EXPECT_LT(distance(here.requantised.data(), elsewhere.requantised.data(), count), 1e-12) << recipe;
    EXPECT_LT(distance(here.plain.data(), elsewhere.plain.data(), count), 1e-12) << recipe;
    EXPECT_EQ(here.out_of_range, elsewhere.out_of_range) << recipe;
  }
}

/// How many rows of a call on one expert are promised, and how many of those are NaN or Inf.
struct RangeCase {
  test::Scales scales;
  test::Codes codes;
  std::int64_t promised;
  std::int64_t non_finite;
};

TEST(Oracle, rows_that_may_overflow_are_not_promised_and_nan_of_the_inputs_is) {
  for (const RangeCase& expected : {RangeCase{test::Scales::normal, test::Codes::normal, 8, 0},
                                    RangeCase{test::Scales::subnormal, test::Codes::normal, 8, 0},
                                    RangeCase{test::Scales::huge, test::Codes::normal, 0, 0},
                                    RangeCase{test::Scales::normal, test::Codes::nan_row, 8, 1},
                                    RangeCase{test::Scales::normal, test::Codes::nan_expert, 8, 8}}) {
    CallRecipe recipe;
    recipe.seed = 4;
    recipe.geometry = {256, 128, 4, 1, 1, 1, 1};
    recipe.tokens = 8;
    recipe.logits = test::Logits::one_expert;
    recipe.bias = test::Bias::absent;
    recipe.scales = expected.scales;
    recipe.codes = expected.codes;
    const OracleResult oracle = full(RandomCall(recipe));
    ASSERT_EQ(oracle.routing.rows, 8);
    EXPECT_EQ(std::count(oracle.out_of_range.begin(), oracle.out_of_range.end(), 0), expected.promised) << recipe;
    std::int64_t non_finite = 0;
    for (std::int64_t row = 0; row < 8; ++row) {
      const double* const values = oracle.requantised_row(row);
      const bool promised = oracle.out_of_range[static_cast<std::size_t>(row)] == 0;
      non_finite += promised && !std::all_of(values, values + 256, [](double x) { return std::isfinite(x); }) ? 1 : 0;
    }
    EXPECT_EQ(non_finite, expected.non_finite) << recipe;
  }
}

TEST(Oracle, counts_local_picks) {
  for (std::uint64_t seed = 20; seed < 40; ++seed) {
    CallRecipe recipe = test::random_recipe(seed);
    recipe.logits_type = contract::FloatType::f32;
    const RandomCall call(recipe);
    const RoutingFacts facts = routing_facts(call.geometry(), call.weights(), call.activations());
    std::vector<std::int64_t> rows(static_cast<std::size_t>(recipe.geometry.local_experts));
    std::int64_t without = 0;
    for (std::int64_t t = 0; t < recipe.tokens; ++t) {
      std::int32_t local = 0;
      for (const auto& [expert, weight] : Naive(call).picks(t)) {
        const std::int32_t e = expert - recipe.local_expert_offset;
        if (e < 0 || e >= recipe.geometry.local_experts) continue;
        ++rows[static_cast<std::size_t>(e)];
        ++local;
      }
      without += local == 0 ? 1 : 0;
      EXPECT_EQ(facts.local_picks[static_cast<std::size_t>(t)], local) << recipe;
    }
    EXPECT_EQ(facts.rows_of_expert, rows) << recipe;
    EXPECT_EQ(facts.rows, std::accumulate(rows.begin(), rows.end(), std::int64_t{0}));
    EXPECT_EQ(facts.active_experts, std::count_if(rows.begin(), rows.end(), [](std::int64_t r) { return r > 0; }));
    EXPECT_EQ(facts.tokens_without_local_pick, without);
    EXPECT_EQ(facts.ambiguous_tokens, 0);
  }
}

CallRecipe large_recipe() {
  CallRecipe recipe;
  recipe.seed = 9;
  recipe.geometry = {128, 128, 64, 8, 4, 4, 2};
  recipe.tokens = 600;
  return recipe;
}

TEST(OracleSample, holds_the_same_rows_as_the_full_oracle) {
  const RandomCall call(large_recipe());
  const OracleResult all = full(call);
  const OracleResult some = sample(call, 1);
  ASSERT_GE(some.checked.size(), 64U);
  ASSERT_LT(some.checked.size(), 600U);
  for (std::size_t i = 0; i < some.checked.size(); ++i) {
    const double* const row = some.requantised_row(static_cast<std::int64_t>(i));
    EXPECT_LT(distance(all.requantised_row(some.checked[i]), row, 128), 1e-12);
  }
  EXPECT_EQ(some.routing.rows, all.routing.rows);
}

TEST(OracleSample, has_both_ends_every_active_expert_and_tokens_without_picks) {
  const RandomCall call(large_recipe());
  const OracleResult some = sample(call, 1);
  std::set<std::int32_t> experts;
  std::int64_t without = 0;
  for (const std::int64_t t : some.checked) {
    without += some.routing.local_picks[static_cast<std::size_t>(t)] == 0 ? 1 : 0;
    for (const auto& [expert, weight] : Naive(call).picks(t)) {
      if (expert < 8) experts.insert(expert);
    }
  }
  EXPECT_EQ(some.checked.front(), 0);
  EXPECT_EQ(some.checked.back(), 599);
  EXPECT_EQ(std::ssize(experts), some.routing.active_experts);
  EXPECT_GE(without, 16);
  EXPECT_LE(without, 18);
}

TEST(OracleSample, is_a_function_of_the_seed) {
  const RandomCall call(large_recipe());
  EXPECT_EQ(sample(call, 1).checked, sample(call, 1).checked);
  EXPECT_NE(sample(call, 1).checked, sample(call, 2).checked);
}

// Tokens whose routing is unusual, and how many of them a sampled run checks.
OracleResult unusual_sample(std::int64_t tokens, bool products_elsewhere) {
  CallRecipe recipe = large_recipe();
  recipe.tokens = tokens;
  recipe.logits = test::Logits::special;
  const RandomCall call(recipe);
  OracleOptions options;
  const std::int64_t hidden = call.geometry().hidden;
  if (products_elsewhere) {
    options.products = [hidden](std::span<const ExpertRow> rows) {
      const std::size_t values = rows.size() * static_cast<std::size_t>(hidden);
      return ExpertRowProducts{std::vector<double>(values), std::vector<double>(values),
                               std::vector<std::uint8_t>(rows.size())};
    };
  }
  OracleResult some = run_oracle(call.geometry(), call.weights(), call.activations(), options);
  EXPECT_EQ(some.routing.unusual_tokens, tokens);
  return some;
}

TEST(OracleSample, adds_every_unusual_token) {
  EXPECT_EQ(unusual_sample(600, false).unusual_checked, 600);
}

TEST(OracleSample, adds_the_lowest_unusual_tokens_up_to_the_limit_of_a_cpu) {
  const OracleResult some = unusual_sample(kMaxUnusualOnCpu + 200, false);
  for (std::int64_t t = 0; t < kMaxUnusualOnCpu; ++t) {
    EXPECT_TRUE(std::binary_search(some.checked.begin(), some.checked.end(), t)) << t;
  }
  EXPECT_GE(some.unusual_checked, kMaxUnusualOnCpu);
  EXPECT_LE(some.unusual_checked, kMaxUnusualOnCpu + 64 + 2);
}

TEST(OracleSample, has_no_limit_where_products_are_computed_elsewhere) {
  EXPECT_EQ(unusual_sample(kMaxUnusualOnCpu + 200, true).unusual_checked, kMaxUnusualOnCpu + 200);
}

TEST(OracleStages, decoded_codes_and_requantised_values_agree) {
  const std::vector<std::uint8_t> codes(256, 0x41);  // 2.25
  const std::vector<float> scales = {0.5F, -2.0F};
  const ScaledRows rows = decode_rows(codes.data(), 128, scales.data(), 2, 2, 128);
  EXPECT_EQ(rows.values, std::vector<double>(256, 2.25));
  EXPECT_EQ(rows.scales, (std::vector<double>{0.5, -2.0}));

  const ScaledRows requantised = requantise_rows(std::vector<double>(256, -3.0), 128);
  EXPECT_EQ(requantised.values, std::vector<double>(256, -448.0));
  EXPECT_EQ(requantised.scales, std::vector<double>(2, 3.0 / 448.0));
}

TEST(OracleStages, requantisation_of_special_blocks_follows_the_contract) {
  constexpr double kInf = std::numeric_limits<double>::infinity();
  std::vector<double> values(4 * 128, 1.0);
  std::fill_n(values.begin(), 128, 0x1p-101);
  values[128] = std::nan("");
  values[256] = kInf;
  const ScaledRows rows = requantise_rows(values, 128);
  EXPECT_EQ(rows.values[0], 0.0);
  EXPECT_EQ(rows.scales[0], 1.0);
  EXPECT_TRUE(std::isnan(rows.values[128]));
  EXPECT_EQ(rows.values[129], 448.0);
  EXPECT_EQ(rows.scales[1], 1.0 / 448.0);
  EXPECT_EQ(rows.scales[2], kInf);
  for (std::size_t i = 256; i < 384; ++i) EXPECT_FALSE(std::isfinite(rows.values[i] * rows.scales[2]));
}

}  // namespace
}  // namespace blockmoe::verify
