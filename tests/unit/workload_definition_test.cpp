// workload_definition_test.cpp: geometry from a definition JSON.
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <string>
#include <utility>

#include "workload/definition.hpp"

namespace blockmoe::workload {
namespace {

std::string official_path() {
  return WORKLOADS "/" + std::string(kOfficialDefinition) + ".json";
}

std::string official_text() {
  std::ifstream file(official_path());
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// The official definition with one piece of its text replaced.
std::string error_after(const std::string& from, const std::string& to) {
  std::string text = official_text();
  const std::size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  if (at == std::string::npos) return "";
  text.replace(at, from.size(), to);
  const auto definition = parse_definition(text, "D");
  return definition.ok() ? "no error" : definition.status().message();
}

TEST(workload_definition, the_shipped_one_is_deepseek_v3) {
  const auto definition = read_definition(official_path());
  ASSERT_TRUE(definition.ok()) << definition.status().message();
  EXPECT_EQ(definition.value().name, kOfficialDefinition);
  EXPECT_EQ(definition.value().tokens_axis, "seq_len");
  EXPECT_EQ(definition.value().geometry, contract::Geometry());
}

TEST(workload_definition, what_is_wrong_is_named) {
  struct Case {
    std::string from, to, message;
  };
  const Case cases[] = {
      {"topk8", "top8",
       R"(D: name: "moe_fp8_block_scale_ds_routing_top8_ng8_kg4_e32_h7168_i2048" has no part "topkN" with a number N)"},
      {"\"axes\"", "\"axis\"", "D: axes: is not there"},
      {"\"hidden_size\": {", "\"hidden\": {", "D: axes.hidden_size: is not there"},
      {"\"value\": 7168", R"("value": "7168")",
       "D: axes.hidden_size.value: is \"7168\", expected an integer of 1..2147483647"},
      {"\"value\": 7168", "\"value\": 7000", "D: hidden: is 7000, expected a multiple of 128"},
      {"\"value\": 4096", "\"value\": 4097", "D: axes.gemm1_out_size: is 4097, expected 4096"},
      {"\"value\": 56", "\"value\": 57", "D: axes.num_hidden_blocks: is 57, expected 56"},
      {R"("type": "const", "value": 32, "description": "L)", R"("type": "var", "value": 32, "description": "L)",
       R"(D: axes: "num_local_experts" and "seq_len" are variable, expected one)"},
      {R"("type": "var")", R"("type": "variable")", "D: axes: none is variable, expected one (the tokens)"},
      {R"(["num_hidden_blocks", "seq_len"])", R"(["seq_len", "num_hidden_blocks"])",
       "D: hidden_states_scale.shape: is [\"seq_len\",\"num_hidden_blocks\"], expected "
       "[\"num_hidden_blocks\",\"seq_len\"]"},
      {R"("bfloat16", "description": "added)", R"("int8", "description": "added)",
       R"(D: routing_bias.dtype: is "int8", expected "bfloat16")"},
      {R"("routed_scaling_factor": {"shape": null)", R"("routed_scaling_factor": {"shape": ["num_experts"])",
       "D: routed_scaling_factor.shape: is [\"num_experts\"], expected null"},
      {"\"routing_bias\"", "\"bias\"", "D: routing_bias: is not there"},
      {R"("output": {"shape")", R"("second": {}, "output": {"shape")",
       "D: inputs and outputs: 10 and 2 entries, expected 10 and 1"},
  };
  for (const Case& c : cases) EXPECT_EQ(error_after(c.from, c.to), c.message);
}

TEST(workload_definition, text_that_is_no_object_is_refused) {
  EXPECT_EQ(parse_definition("[]", "D").status().message(), "D: is an array, expected a JSON object");
  EXPECT_FALSE(parse_definition("{", "D").ok());
  EXPECT_FALSE(parse_definition("", "D").ok());
}

TEST(workload_definition, geometry_keeps_the_limits_of_the_contract) {
  using contract::Geometry;
  const auto error = [](auto change) {
    Geometry g;
    change(g);
    return check_geometry(g).message();
  };
  EXPECT_EQ(error([](Geometry&) {}), "");
  EXPECT_EQ(error([](Geometry& g) { g.hidden = 0; }), "hidden: is 0, expected 128..65536");
  EXPECT_EQ(error([](Geometry& g) { g.intermediate = 65664; }), "intermediate: is 65664, expected 128..65536");
  EXPECT_EQ(error([](Geometry& g) { g.intermediate = 192; }), "intermediate: is 192, expected a multiple of 128");
  EXPECT_EQ(error([](Geometry& g) { g.experts = 1025; }), "experts: is 1025, expected 1..1024");
  EXPECT_EQ(error([](Geometry& g) { g.local_experts = 257; }), "local_experts: is 257, expected 1..256");
  EXPECT_EQ(error([](Geometry& g) { g.n_group = 0; }), "n_group: is 0, expected 1..256");
  EXPECT_EQ(error([](Geometry& g) { g.topk_group = 9; }), "topk_group: is 9, expected 1..8");
  EXPECT_EQ(error([](Geometry& g) { g.top_k = 33; }), "top_k: is 33, expected 1..32");
}

}  // namespace
}  // namespace blockmoe::workload
