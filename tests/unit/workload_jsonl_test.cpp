// workload_jsonl_test.cpp: rows of both forms, what they mean, and what is refused with which words.
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "workload/definition.hpp"
#include "workload/workload.hpp"
#include "workload_files.hpp"

namespace blockmoe::workload {
namespace {

using testing::TempFolder;

std::vector<Workload> parse(const std::string& text) {
  auto rows = parse_workloads(text, "F", "", "");
  EXPECT_TRUE(rows.ok()) << rows.status().message();
  return rows.ok() ? std::move(rows).value() : std::vector<Workload>();
}

std::string error_of(const std::string& text) {
  const auto rows = parse_workloads(text, "F", "", "");
  return rows.ok() ? "no error" : rows.status().message();
}

std::string nested(const std::string& inner, const std::string& definition = std::string(kOfficialDefinition)) {
  return R"({"definition": ")" + definition + R"(", "solution": null, "workload": )" + inner +
         R"(, "evaluation": null})";
}

TEST(workload_jsonl, a_flat_row_needs_uuid_and_T_alone) {
  const auto rows = parse("{\"uuid\": \"e05c6c03\", \"T\": 1}\n");
  ASSERT_EQ(rows.size(), 1U);
  const Workload& row = rows[0];
  EXPECT_EQ(row.uuid, "e05c6c03");
  EXPECT_EQ(row.tokens, 1);
  EXPECT_EQ(row.split, "dev");
  EXPECT_EQ(row.geometry, contract::Geometry());
  EXPECT_EQ(row.local_expert_offset, 0);
  EXPECT_EQ(row.routed_scaling_factor, 2.5F);
  EXPECT_EQ(row.weights_seed, 0U);
  EXPECT_FALSE(row.agent_latency_us.has_value());
  EXPECT_FALSE(row.baseline_latency_us.has_value());
  EXPECT_TRUE(row.files.empty());
  EXPECT_EQ(row.line, 1);
}

TEST(workload_jsonl, a_row_without_a_seed_gets_the_hash_of_its_uuid) {
  const auto rows = parse("{\"uuid\": \"a\", \"T\": 1}\n{\"uuid\": \"b\", \"T\": 1}");
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_EQ(rows[0].seed, 0xaf63dc4c8601ec8cU);  // FNV-1a of "a"
  EXPECT_NE(rows[0].seed, rows[1].seed);
}

TEST(workload_jsonl, a_flat_row_sets_everything) {
  const auto rows = parse(
      R"({"uuid": "x", "T": 9, "split": "test", "local_expert_offset": -4, "routed_scaling_factor": 1,)"
      R"( "seed": 18446744073709551615, "weights_seed": 3, "agent_latency_us": 108, "baseline_latency_us": 203.5,)"
      R"( "geometry": {"hidden": 256, "intermediate": 128, "experts": 16, "local_experts": 4, "top_k": 3, "n_group": 4,)"
      R"( "topk_group": 2}, "inputs": {"routing_bias": {"type": "safetensors", "path": "p", "tensor_key": "k"},)"
      R"( "hidden_states": {"type": "random"}}})");
  ASSERT_EQ(rows.size(), 1U);
  const Workload& row = rows[0];
  EXPECT_EQ(row.tokens, 9);
  EXPECT_EQ(row.split, "test");
  EXPECT_EQ(row.local_expert_offset, -4);
  EXPECT_EQ(row.routed_scaling_factor, 1.0F);
  EXPECT_EQ(row.seed, 18446744073709551615U);
  EXPECT_EQ(row.weights_seed, 3U);
  EXPECT_EQ(row.agent_latency_us, 108.0);
  EXPECT_EQ(row.baseline_latency_us, 203.5);
  EXPECT_EQ(row.geometry, (contract::Geometry{256, 128, 16, 4, 3, 4, 2}));
  ASSERT_EQ(row.files.size(), 1U);
  EXPECT_EQ(row.files.at("routing_bias").path, "p");
  EXPECT_EQ(row.files.at("routing_bias").tensor_key, "k");
}

TEST(workload_jsonl, a_nested_row_is_read_as_flashinfer_bench_writes_it) {
  const auto read = read_workloads(WORKLOADS "/nested_form.jsonl", "");
  ASSERT_TRUE(read.ok()) << read.status().message();
  const auto& rows = read.value();
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_EQ(rows[0].uuid, "00000000-0000-4000-8000-000000000001");
  EXPECT_EQ(rows[0].tokens, 3);
  EXPECT_EQ(rows[0].local_expert_offset, 64);
  EXPECT_EQ(rows[0].split, "dev");
  EXPECT_EQ(rows[0].definition, kOfficialDefinition);
  EXPECT_TRUE(rows[0].files.empty());
  ASSERT_EQ(rows[1].files.size(), 2U);
  EXPECT_EQ(rows[1].files.at("routing_logits").path, "./blob/workloads/moe/example.safetensors");
  EXPECT_EQ(rows[1].files.at("routing_logits").tensor_key, "routing_logits");
}

TEST(workload_jsonl, templates_know_every_key_of_a_flat_row) {
  const std::string line =
      R"({"uuid": "x", "T": 9, "note": "two words", "n": 2.5, "flag": true, "none": null, "list": [1, {"a": "b"}]})";
  const auto rows = parse("  " + line + " \r\n");
  ASSERT_EQ(rows.size(), 1U);
  const auto& values = rows[0].values;
  const std::pair<const char*, std::string> expected[] = {
      {"uuid", "x"}, {"T", "9"},       {"note", "two words"},        {"n", "2.5"},           {"flag", "true"},
      {"none", ""},  {"split", "dev"}, {"list", R"([1,{"a":"b"}])"}, {"workload_json", line}};
  for (const auto& [key, text] : expected) {
    ASSERT_TRUE(values.contains(key)) << key;
    EXPECT_EQ(values.at(key), text) << key;
  }
}

TEST(workload_jsonl, templates_know_axes_and_scalars_of_a_nested_row) {
  const auto rows = parse(nested(R"({"uuid": "x", "axes": {"seq_len": 5},)"
                                 R"( "inputs": {"local_expert_offset": {"type": "scalar", "value": 32}}})"));
  ASSERT_EQ(rows.size(), 1U);
  EXPECT_EQ(rows[0].values.at("seq_len"), "5");
  EXPECT_EQ(rows[0].values.at("T"), "5");
  EXPECT_EQ(rows[0].values.at("uuid"), "x");
  EXPECT_EQ(rows[0].values.at("local_expert_offset"), "32");
  EXPECT_EQ(rows[0].values.at("definition"), kOfficialDefinition);
}

TEST(workload_jsonl, blank_lines_are_skipped_and_counted) {
  const auto rows = parse("\n  \t\r\n{\"uuid\": \"a\", \"T\": 1}\n\n{\"uuid\": \"b\", \"T\": 2}");
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_EQ(rows[0].line, 3);
  EXPECT_EQ(rows[1].line, 5);
}

TEST(workload_jsonl, what_is_wrong_is_named_with_file_and_line) {
  const std::string good = R"({"uuid": "good", "T": 1})";
  const std::string small = R"("geometry": {"hidden": 256, "intermediate": 128, )";
  const std::pair<std::string, std::string> cases[] = {
      {"", "F: no workloads, expected a JSON object a line"},
      {"\n\n", "F: no workloads, expected a JSON object a line"},
      {good + "\n[1]", "F:2: is an array, expected a JSON object"},
      {R"({"T": 1})", "F:1: uuid: is not there"},
      {R"({"uuid": 5, "T": 1})", "F:1: uuid: is 5, expected a string"},
      {R"({"uuid": "a b", "T": 1})",
       "F:1: uuid: is \"a b\", expected 1 to 200 printable ASCII characters without spaces"},
      {R"({"uuid": "", "T": 1})", "F:1: uuid: is \"\", expected 1 to 200 printable ASCII characters without spaces"},
      {R"({"uuid": "a"})", "F:1: T: is not there"},
      {R"({"uuid": "a", "T": -1})", "F:1: T: is -1, expected an integer of 0..1073741824"},
      {R"({"uuid": "a", "T": 1073741825})", "F:1: T: is 1073741825, expected an integer of 0..1073741824"},
      {R"({"uuid": "a", "T": 1.0})", "F:1: T: is 1.0, expected an integer of 0..1073741824"},
      {R"({"uuid": "a", "T": 9223372036854775808})",
       "F:1: T: is 9223372036854775808, expected an integer of 0..1073741824"},
      {R"({"uuid": "a", "T": "1"})", "F:1: T: is \"1\", expected an integer of 0..1073741824"},
      {R"({"uuid": "a", "T": 1, "T": 2})", "F:1: key \"T\" stands twice"},
      {R"({"uuid": "a", "T": 1, "x": {"b\n": 1, "b\n": 2}})", R"(F:1: key "b\u000a" stands twice)"},
      {good + "\n" + good, "F:2: uuid: \"good\" stands in line 1 already"},
      {R"({"uuid": "a", "T": 1, "split": 1})", "F:1: split: is 1, expected a string"},
      {R"({"uuid": "a", "T": 1, "seed": -1})", "F:1: seed: is -1, expected an integer of 0..2^64-1"},
      {R"({"uuid": "a", "T": 1, "weights_seed": 0.5})", "F:1: weights_seed: is 0.5, expected an integer of 0..2^64-1"},
      {R"({"uuid": "a", "T": 1, "agent_latency_us": "3"})", "F:1: agent_latency_us: is \"3\", expected a number"},
      {R"({"uuid": "a", "T": 1, "baseline_latency_us": -3})", "F:1: baseline_latency_us: is -3, expected at least 0"},
      {R"({"uuid": "a", "T": 1, "local_expert_offset": 2147483648})",
       "F:1: local_expert_offset: is 2147483648, expected an integer of -2147483648..2147483647"},
      {R"({"uuid": "a", "T": 1, "routed_scaling_factor": 1e39})",
       "F:1: routed_scaling_factor: is 1e+39, expected a number that a float can hold"},
      {R"({"uuid": "a", "T": 1, )" + small + R"("experts": 0}})",
       "F:1: geometry.experts: is 0, expected an integer of 1..65536"},
      {R"({"uuid": "a", "T": 1, "geometry": {"hidden": 200}})",
       "F:1: geometry.hidden: is 200, expected a multiple of 128"},
      {R"({"uuid": "a", "T": 1, "geometry": {"n_group": 7}})",
       "F:1: geometry.n_group: is 7, expected a divisor of experts (256)"},
      {R"({"uuid": "a", "T": 1, "geometry": {"top_k": 32, "topk_group": 1, "n_group": 16}})",
       "F:1: geometry.top_k: is 32, expected at most 16 (topk_group groups of 16 experts)"},
      {R"({"uuid": "a", "T": 1, "geometry": {"width": 1}})",
       "F:1: geometry: has a key besides hidden, intermediate, experts, local_experts, top_k, n_group and topk_group"},
      {R"({"uuid": "a", "T": 1, "geometry": {}, "definition": ")" + std::string(kOfficialDefinition) + "\"}",
       "F:1: geometry: stands beside a definition, expected one of them"},
      {R"({"uuid": "a", "T": 1, "definition": "../x"})",
       "F:1: definition: is \"../x\", expected letters, digits, '.', '_' and '-'"},
      {R"({"uuid": "a", "T": 1, "definition": "x"})",
       "F:1: definition: \"x\" is not built in, and x.json is neither in the data set nor beside this file"},
      {R"({"uuid": "a", "T": 1, "inputs": {"w": {"type": "random"}}})",
       "F:1: inputs: \"w\" is not a tensor of the operator"},
      {R"({"uuid": "a", "T": 1, "inputs": {"routing_bias": {"type": "zeros"}}})",
       R"(F:1: inputs.routing_bias.type: is "zeros", expected "random" or "safetensors")"},
      {R"({"uuid": "a", "T": 1, "inputs": {"routing_bias": {"type": "safetensors", "path": "p"}}})",
       "F:1: inputs.routing_bias.tensor_key: is not there or empty, expected a string"},
      {R"({"uuid": "a", "T": 1, "inputs": {"local_expert_offset": {"type": "random"}}})",
       R"(F:1: inputs.local_expert_offset: expected {"type": "scalar", "value": ...})"},
      {nested("5"), "F:1: workload: is 5, expected an object"},
      {nested(R"({"uuid": "a"})"), "F:1: axes: is not there"},
      {nested(R"({"uuid": "a", "axes": {"tokens": 1}})"), "F:1: axes.seq_len: is not there"},
      {nested(R"({"uuid": "a", "axes": {"seq_len": null}})"),
       "F:1: axes.seq_len: is null, expected an integer of 0..1073741824"},
      {R"({"workload": {"uuid": "a", "axes": {"seq_len": 1}}})", "F:1: definition: is not there"},
  };
  for (const auto& [text, expected] : cases) EXPECT_EQ(error_of(text), expected) << text;
}

TEST(workload_jsonl, what_json_forbids_is_refused) {
  const std::string cases[] = {R"({"uuid": "a", "T": 1)", R"({"uuid": "a", "T": 1} x)",
                               "{\"uuid\": \"\xff\", \"T\": 1}", R"({"uuid": "a", "T": 1, "x": 1e999})",
                               R"({"uuid": "a", /* no */ "T": 1})"};
  for (const std::string& text : cases) {
    const std::string message = error_of(text);
    EXPECT_EQ(message.rfind("F:1: ", 0), 0U) << message;
    EXPECT_EQ(message.find("json.exception"), std::string::npos) << message;
  }
}

TEST(workload_jsonl, a_syntax_error_is_placed_by_the_files_line_and_the_lines_column) {
  EXPECT_EQ(error_of("{\"uuid\": \"a\", \"T\": 1}\n{\"uuid\": \"b\", \"T\": }"),
            "F:2: parse error at column 20: syntax error while parsing value - unexpected '}'; expected '[', '{', or a "
            "literal");
}

TEST(workload_jsonl, depth_and_length_of_a_line_are_bounded) {
  const std::string deep = R"({"uuid": "a", "T": 1, "x": )" + std::string(16, '[') + std::string(16, ']') + "}";
  EXPECT_EQ(error_of(deep), "F:1: nested deeper than 16 levels");
  const std::string line = R"({"uuid": "a", "T": 1, "x": ")" + std::string(kMaxLineBytes, 'x') + "\"}";
  EXPECT_EQ(error_of(line), "F:1: " + std::to_string(line.size()) + " bytes, expected at most 1048576");
}

TEST(workload_jsonl, a_file_that_is_not_there_is_named) {
  const TempFolder folder;
  const auto rows = read_workloads(folder.path("none.jsonl"), "");
  ASSERT_FALSE(rows.ok());
  EXPECT_EQ(rows.status().code(), StatusCode::invalid_argument);
  EXPECT_EQ(rows.status().message(), folder.path("none.jsonl") + ": can't be opened (No such file or directory)");
}

constexpr std::string_view kSmallDefinition =
    R"({"name": "moe_topk3_ng4_kg2", "axes": {"tokens": {"type": "var"},
    "num_experts": {"type": "const", "value": 16}, "num_local_experts": {"type": "const", "value": 4},
    "hidden_size": {"type": "const", "value": 256}, "intermediate_size": {"type": "const", "value": 128},
    "gemm1_out_size": {"type": "const", "value": 256}, "num_hidden_blocks": {"type": "const", "value": 2},
    "num_intermediate_blocks": {"type": "const", "value": 1}, "num_gemm1_out_blocks": {"type": "const", "value": 2}},
    "inputs": {"routing_logits": {"shape": ["tokens", "num_experts"], "dtype": "float32"},
    "routing_bias": {"shape": ["num_experts"], "dtype": "bfloat16"},
    "hidden_states": {"shape": ["tokens", "hidden_size"], "dtype": "float8_e4m3fn"},
    "hidden_states_scale": {"shape": ["num_hidden_blocks", "tokens"], "dtype": "float32"},
    "gemm1_weights": {"shape": ["num_local_experts", "gemm1_out_size", "hidden_size"], "dtype": "float8_e4m3fn"},
    "gemm1_weights_scale": {"shape": ["num_local_experts", "num_gemm1_out_blocks", "num_hidden_blocks"], "dtype": "float32"},
    "gemm2_weights": {"shape": ["num_local_experts", "hidden_size", "intermediate_size"], "dtype": "float8_e4m3fn"},
    "gemm2_weights_scale": {"shape": ["num_local_experts", "num_hidden_blocks", "num_intermediate_blocks"], "dtype": "float32"},
    "local_expert_offset": {"shape": null, "dtype": "int32"}, "routed_scaling_factor": {"shape": null, "dtype": "float32"}},
    "outputs": {"output": {"shape": ["tokens", "hidden_size"], "dtype": "bfloat16"}}})";

TEST(workload_jsonl, a_definition_is_found_in_the_data_set_and_beside_the_file) {
  const std::string row = R"({"definition": "small", "workload": {"uuid": "a", "axes": {"tokens": 4}}})";
  const contract::Geometry expected{256, 128, 16, 4, 3, 4, 2};
  const TempFolder beside;
  beside.write("small.json", kSmallDefinition);
  const auto from_beside = read_workloads(beside.write("w.jsonl", row), "");
  ASSERT_TRUE(from_beside.ok()) << from_beside.status().message();
  EXPECT_EQ(from_beside.value()[0].geometry, expected);
  EXPECT_EQ(from_beside.value()[0].tokens, 4);

  const TempFolder alone, root;
  root.write("definitions/moe/small.json", kSmallDefinition);
  const auto from_root = read_workloads(alone.write("w.jsonl", row), root.path());
  ASSERT_TRUE(from_root.ok()) << from_root.status().message();
  EXPECT_EQ(from_root.value()[0].geometry, expected);
}

TEST(workload_jsonl, a_broken_definition_is_named_with_its_own_file) {
  const TempFolder folder;
  const std::string definition = folder.write("small.json", "{}");
  const std::string file = folder.write("w.jsonl", R"({"uuid": "a", "T": 4, "definition": "small"})");
  const auto rows = read_workloads(file, "");
  ASSERT_FALSE(rows.ok());
  EXPECT_EQ(rows.status().message(), file + ":1: " + definition + ": name: is not there");
}

TEST(workload_jsonl, a_flat_row_takes_the_files_of_the_data_sets_row_that_its_uuid_begins) {
  const TempFolder root, folder;
  const std::string name(kOfficialDefinition);
  root.write("workloads/moe/" + name + ".jsonl",
             nested(R"({"uuid": "e05c6c03-1", "axes": {"seq_len": 1}, "inputs": {)"
                    R"("routing_logits": {"type": "safetensors", "path": "./a", "tensor_key": "l"},)"
                    R"("local_expert_offset": {"type": "scalar", "value": 96}}})"));
  const std::string file = folder.write("w.jsonl", R"({"uuid": "e05c6c03", "T": 1, "definition": ")" + name + "\"}\n" +
                                                       R"({"uuid": "e05c", "T": 2, "definition": ")" + name + "\"}\n" +
                                                       R"({"uuid": "e0", "T": 1})");
  const auto rows = read_workloads(file, root.path());
  ASSERT_TRUE(rows.ok()) << rows.status().message();
  EXPECT_EQ(rows.value()[0].files.at("routing_logits").path, "./a");
  EXPECT_EQ(rows.value()[0].local_expert_offset, 96);
  EXPECT_TRUE(rows.value()[1].files.empty()) << "another T is another shape";
  EXPECT_TRUE(rows.value()[2].files.empty()) << "no definition, no data set";
}

TEST(workload_jsonl, the_shipped_file_holds_the_19_shapes) {
  const auto read = read_workloads(WORKLOADS "/deepseek_v3.jsonl", "");
  ASSERT_TRUE(read.ok()) << read.status().message();
  const std::vector<std::pair<std::string, std::int64_t>> expected = {
      {"e05c6c03", 1},  {"b8f4f012", 7},   {"8cba5890", 14},    {"2e69caee", 15},   {"a7c2bcfd", 16},
      {"6230e838", 32}, {"f7d6ac7c", 52},  {"fc378037", 53},    {"76010cb4", 54},   {"81955b1e", 55},
      {"4822167c", 56}, {"74d7ff04", 57},  {"e626d3e6", 58},    {"eedc63b2", 59},   {"5eadab1e", 62},
      {"8f1ff9f1", 80}, {"1a4c6ba1", 901}, {"58a34f27", 11948}, {"5e8dc11c", 14107}};
  ASSERT_EQ(read.value().size(), expected.size());
  std::set<std::string> splits;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const Workload& row = read.value()[i];
    EXPECT_EQ(row.uuid, expected[i].first);
    EXPECT_EQ(row.tokens, expected[i].second);
    EXPECT_EQ(row.geometry, contract::Geometry());
    EXPECT_EQ(row.local_expert_offset % 32, 0);
    EXPECT_TRUE(row.local_expert_offset >= 0 && row.local_expert_offset < 256);
    EXPECT_EQ(row.weights_seed, 0U) << "one set of weights serves all rows";
    splits.insert(row.split);
  }
  EXPECT_EQ(splits, (std::set<std::string>{"dev", "test"}));
}

}  // namespace
}  // namespace blockmoe::workload
