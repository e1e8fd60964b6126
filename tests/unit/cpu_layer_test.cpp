// cpu_layer_test.cpp: stages alone and whole calls on every path that this machine runs, against FP64, and their bits
// against themselves: threads, other tokens, chunks.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "contract/e4m3.h"
#include "contract/exp.h"
#include "cpu/cpu_backend.hpp"
#include "cpu/gemm1.hpp"
#include "cpu/gemm2.hpp"
#include "cpu/pack.hpp"
#include "cpu/route.hpp"
#include "cpu/run.hpp"
#include "cpu/tile.hpp"
#include "cpu_call.hpp"
#include "cpu_reference.hpp"

namespace blockmoe::test {
namespace {

using cpu::Chunk;
using cpu::InstructionSet;
using cpu::LocalPick;
using cpu::Sizes;

CallRecipe recipe_of(std::int64_t hidden, std::int64_t intermediate, std::int64_t tokens) {
  CallRecipe recipe;
  recipe.geometry.hidden = hidden;
  recipe.geometry.intermediate = intermediate;
  recipe.geometry.experts = 16;
  recipe.geometry.local_experts = 6;
  recipe.geometry.top_k = 5;
  recipe.geometry.n_group = 4;
  recipe.geometry.topk_group = 3;
  recipe.tokens = tokens;
  recipe.local_expert_offset = 4;
  recipe.seed = static_cast<std::uint64_t>(hidden * 7 + intermediate + tokens);
  return recipe;
}

std::vector<std::uint16_t> run(const CpuCall& call) {
  cpu::run(call.call());
  return call.output();
}

std::vector<double> decoded(const std::vector<std::uint16_t>& values) {
  std::vector<double> result(values.size());
  std::ranges::transform(values, result.begin(), [](std::uint16_t x) { return double{contract::bf16_decode(x)}; });
  return result;
}

class CpuLayer : public EachPath {};

// Columns 0..127 of gemm1's tile are up, the others gate: the same steps as gemm1.cpp, stopped before the requantisation.
std::vector<double> intermediate_of_tile(const CpuCall& cpu_call, std::int64_t column_block, std::int32_t expert) {
  const cpu::Call& call = cpu_call.call();
  const contract::Geometry& g = call.geometry;
  const cpu::Scratch scratch = call.buffers.scratch_of(0, call.products);
  const auto rows = static_cast<std::int32_t>(call.activations.tokens);
  cpu::Tile tile(call.products, scratch, rows);
  for (std::int32_t r = 0; r < rows; ++r) tile.set_row(r, call.activations.hidden + r * call.activations.hidden_pitch);
  for (std::int64_t k = 0; k < g.hidden_blocks(); ++k) {
    tile.load_activations(k);
    std::copy_n(call.activations.hidden_scale + k * call.activations.hidden_scale_pitch, rows,
                tile.activation_scales());
    for (const bool gate : {false, true}) {
      const std::int64_t half = gate ? call.weights.gate_row(g.intermediate) : call.weights.up_row(g.intermediate);
      const std::int64_t row = expert * 2 * g.intermediate + half + column_block * cpu::kBlock;
      tile.multiply_add(call.weights.w13 + row * g.hidden + k * cpu::kBlock, g.hidden,
                        call.weights.w13_scale[row / cpu::kBlock * g.hidden_blocks() + k], gate ? cpu::kBlock : 0);
    }
  }
  std::vector<double> values;
  for (std::int32_t r = 0; r < rows; ++r) {
    for (int i = 0; i < cpu::kBlock; ++i) {
      values.push_back(double{contract::silu(tile.acc(r)[cpu::kBlock + i])} * double{tile.acc(r)[i]});
    }
  }
  return values;
}

TEST_P(CpuLayer, gemm1_before_requantisation_holds_its_gate) {
  const CallRecipe recipe = recipe_of(640, 256, 9);
  const RandomCall call(recipe);
  const CpuCall cpu_call(call, GetParam(), 1);
  for (std::int32_t expert = 0; expert < 2; ++expert) {
    std::vector<double> expected;
    for (std::int64_t t = 0; t < recipe.tokens; ++t) {
      const std::vector<double> row = reference_intermediate(call, t, expert);
      expected.insert(expected.end(), row.begin() + cpu::kBlock, row.begin() + 2 * cpu::kBlock);
    }
    EXPECT_LT(relative_l2(intermediate_of_tile(cpu_call, 1, expert), expected), 0.0005);
  }
}

// Of one code a value and of two, whose sum is the intermediate.
TEST_P(CpuLayer, gemm2_holds_its_gate_on_gemm1s_own_codes) {
  struct Case {
    contract::IntermediateType type;
    double gemm1_limit, gemm2_limit;
  };
  for (const Case& of : {Case{contract::IntermediateType::e4m3, 0.04, 0.002},
                         Case{contract::IntermediateType::e4m3x2, 0.0015, 0.00001}}) {
    CallRecipe recipe = recipe_of(384, 640, 12);
    recipe.intermediate_type = of.type;
    const RandomCall call(recipe);
    const CpuCall cpu_call(call, GetParam(), 2);
    const cpu::Call& stages = cpu_call.call();
    const contract::Geometry& g = recipe.geometry;
    const std::int64_t terms = contract::terms_of(of.type);
    cpu::route(stages, {0, recipe.tokens});
    const Chunk chunk = cpu::pack(stages, {0, recipe.tokens}, 0);
    cpu::gemm1(stages, chunk);
    cpu::gemm2(stages, chunk);
    std::int64_t rows = 0;
    for (std::int64_t t = 0; t < recipe.tokens; ++t) {
      for (std::int32_t i = 0; i < stages.buffers.pick_count[t]; ++i, ++rows) {
        const LocalPick& pick = stages.picks_of(t)[i];
        std::vector<double> inter;
        for (std::int64_t column = 0; column < g.intermediate; ++column) {
          double value = 0;
          for (std::int64_t term = 0; term < terms; ++term) {
            const std::int64_t scale = (column / cpu::kBlock * stages.sizes.max_rows + pick.row) * terms + term;
            const std::int64_t code = (pick.row * terms + term) * g.intermediate + column;
            value += double{contract::e4m3_decode(stages.buffers.inter[code])} * stages.buffers.inter_scale[scale];
          }
          inter.push_back(value);
        }
        EXPECT_LT(relative_l2(inter, reference_intermediate(call, t, pick.expert)), of.gemm1_limit);
        const float* output = stages.buffers.expert_output + pick.row * g.hidden;
        EXPECT_LT(relative_l2(std::vector<double>(output, output + g.hidden),
                              reference_expert_output(call, inter, pick.expert)),
                  of.gemm2_limit);
      }
    }
    EXPECT_GT(rows, 0);
  }
}

TEST_P(CpuLayer, whole_calls_hold_the_gate) {
  for (const auto& [hidden, intermediate] : {std::pair{128, 128}, std::pair{384, 256}, std::pair{256, 384}}) {
    for (const bool other_layout : {false, true}) {
      CallRecipe recipe = recipe_of(hidden, intermediate, 17);
      recipe.gate_first = other_layout;
      recipe.pitched = other_layout;
      if (other_layout) {
        recipe.logits_type = contract::FloatType::bf16;
        recipe.bias_type = contract::FloatType::f32;
      }
      const RandomCall call(recipe);
      std::vector<double> expected;
      for (std::int64_t t = 0; t < recipe.tokens; ++t) {
        const std::vector<double> row = reference_output(call, t);
        expected.insert(expected.end(), row.begin(), row.end());
      }
      EXPECT_LT(relative_l2(decoded(run(CpuCall(call, GetParam(), 2))), expected), 0.003) << recipe;
    }
  }
}

TEST_P(CpuLayer, bits_of_two_terms_do_not_depend_on_threads_other_tokens_and_chunks) {
  CallRecipe recipe = recipe_of(256, 384, 70);
  recipe.intermediate_type = contract::IntermediateType::e4m3x2;
  const RandomCall call(recipe);
  const std::vector<std::uint16_t> whole = run(CpuCall(call, GetParam(), 2));
  EXPECT_EQ(run(CpuCall(call, GetParam(), 7)), whole);
  EXPECT_TRUE(std::ranges::equal(run(CpuCall(call, GetParam(), 1, 13, 5)),
                                 std::vector<std::uint16_t>(whole.begin() + 13 * 256, whole.begin() + 18 * 256)));
  Sizes sizes = cpu::choose_sizes(recipe.geometry, recipe.tokens, 2, recipe.intermediate_type);
  sizes.max_rows = 6;
  EXPECT_EQ(run(CpuCall(call, GetParam(), sizes, 0, recipe.tokens)), whole);
}

TEST_P(CpuLayer, bits_do_not_depend_on_the_threads) {
  const RandomCall call(recipe_of(256, 256, 40));
  const std::vector<std::uint16_t> once = run(CpuCall(call, GetParam(), 1));
  EXPECT_EQ(std::ranges::count(once, CpuCall::kUnwritten), 0);
  for (const int threads : {1, 2, 3, 7}) EXPECT_EQ(run(CpuCall(call, GetParam(), threads)), once);
}

TEST_P(CpuLayer, bits_of_a_token_do_not_depend_on_the_other_tokens) {
  const CallRecipe recipe = recipe_of(256, 128, 70);
  const RandomCall call(recipe);
  const std::vector<std::uint16_t> together = run(CpuCall(call, GetParam(), 2));
  for (const auto& [first, count] : {std::pair{0, 1}, std::pair{69, 1}, std::pair{13, 5}, std::pair{30, 40}}) {
    const std::vector<std::uint16_t> apart = run(CpuCall(call, GetParam(), 2, first, count));
    EXPECT_TRUE(std::ranges::equal(
        apart, std::vector<std::uint16_t>(together.begin() + first * 256, together.begin() + (first + count) * 256)))
        << count << " tokens from " << first;
  }
}

TEST_P(CpuLayer, bits_do_not_depend_on_blocks_and_chunks) {
  const CallRecipe recipe = recipe_of(128, 128, 90);
  const RandomCall call(recipe);
  const std::vector<std::uint16_t> whole = run(CpuCall(call, GetParam(), 2));
  for (const auto& [block_tokens, max_rows] :
       {std::pair{90, 5}, std::pair{16, 1000}, std::pair{7, 6}, std::pair{1, 5}}) {
    Sizes sizes = cpu::choose_sizes(recipe.geometry, recipe.tokens, 2);
    sizes.block_tokens = block_tokens;
    sizes.max_rows = max_rows;
    EXPECT_EQ(run(CpuCall(call, GetParam(), sizes, 0, recipe.tokens)), whole) << block_tokens << ", " << max_rows;
  }
}

TEST_P(CpuLayer, every_expert_with_many_rows_is_computed) {
  CallRecipe recipe = recipe_of(128, 128, 600);  // three row blocks
  recipe.logits = Logits::one_expert;
  const RandomCall call(recipe);
  const std::vector<double> output = decoded(run(CpuCall(call, GetParam(), 2)));
  for (const std::int64_t t : {0, 199, 200, 255, 256, 400, 599}) {
    EXPECT_LT(relative_l2(std::vector<double>(output.begin() + t * 128, output.begin() + (t + 1) * 128),
                          reference_output(call, t)),
              0.01)
        << "token " << t;
  }
}

TEST_P(CpuLayer, tokens_without_local_picks_are_zeros) {
  CallRecipe recipe = recipe_of(256, 128, 10);
  recipe.local_expert_offset = 16;
  const std::vector<std::uint16_t> output = run(CpuCall(RandomCall(recipe), GetParam(), 2));
  EXPECT_EQ(std::ranges::count(output, 0), static_cast<std::ptrdiff_t>(output.size()));
}

TEST_P(CpuLayer, has_the_bits_of_plain_where_products_hpp_says_so) {
  if (GetParam() == InstructionSet::amx) GTEST_SKIP() << "TDPBF16PS adds in another order";
  const RandomCall call(recipe_of(384, 256, 30));
  EXPECT_EQ(run(CpuCall(call, GetParam(), 2)), run(CpuCall(call, InstructionSet::plain, 2)));
}

INSTANTIATE_TEST_SUITE_P(Paths, CpuLayer, testing::ValuesIn(kEverySet), path_name);

api::PlanRequest request_of(const CallRecipe& recipe, int threads) {
  api::PlanRequest request;
  request.geometry = recipe.geometry;
  request.max_tokens = recipe.tokens;
  request.device.sm_count = 2;
  request.options.max_threads = threads;
  return request;
}

TEST(CpuBackend, names_its_path_and_takes_the_machines_best) {
  const CallRecipe recipe = recipe_of(128, 128, 4);
  const auto plan = cpu::backend_entry().plan(request_of(recipe, 0));
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan.value().path, "cpu/" + std::string(cpu::name_of(cpu::best_instruction_set())));
  for (const InstructionSet set : kEverySet) {
    const auto forced = cpu::plan_for(request_of(recipe, 0), set);
    EXPECT_EQ(forced.ok(), cpu::is_available(set));
    if (forced.ok()) {
      EXPECT_EQ(forced.value().path, "cpu/" + std::string(cpu::name_of(set)));
    } else {
      EXPECT_EQ(forced.status().code(), StatusCode::unsupported);
    }
  }
}

TEST(CpuBackend, workspace_has_a_ceiling) {
  api::PlanRequest request;
  for (const std::int64_t tokens : {std::int64_t{16384}, std::int64_t{1} << 30}) {
    request.max_tokens = tokens;
    request.device.sm_count = 2;
    for (const std::int32_t top_k : {8, 32}) {
      request.geometry.top_k = top_k;
      const auto plan = cpu::backend_entry().plan(request);
      ASSERT_TRUE(plan.ok());
      EXPECT_LT(plan.value().workspace.bytes, std::size_t{1} << 30);
      EXPECT_EQ(plan.value().workspace.init, WorkspaceInit::anything);
    }
  }
}

TEST(CpuBackend, one_plan_serves_two_callers_at_a_time) {
  const CallRecipe recipe = recipe_of(128, 256, 20);
  const RandomCall call(recipe);
  const std::vector<std::uint16_t> expected = run(CpuCall(call, cpu::best_instruction_set(), 1));
  const api::PlanRequest request = request_of(recipe, 2);
  const auto plan = cpu::backend_entry().plan(request);
  ASSERT_TRUE(plan.ok());
  const auto binding = cpu::backend_entry().bind(request, plan.value(), call.weights());
  ASSERT_TRUE(binding.ok());
  const auto caller = [&] {
    for (int i = 0; i < 5; ++i) {
      AlignedMemory workspace(plan.value().workspace.bytes);
      std::vector<std::uint16_t> output(expected.size());
      contract::Activations activations = call.activations();
      activations.output = output.data();
      activations.output_pitch = recipe.geometry.hidden;
      const Status status = cpu::backend_entry().run(request, plan.value(), binding.value(), call.weights(),
                                                     activations, workspace.data(), nullptr);
      EXPECT_TRUE(status.ok());
      EXPECT_EQ(output, expected);
    }
  };
  std::thread other(caller);
  caller();
  other.join();
}

}  // namespace
}  // namespace blockmoe::test
