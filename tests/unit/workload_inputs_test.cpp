// workload_inputs_test.cpp: the tensors of a call, drawn or read, and what the report is told of them.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include "contract/e4m3.h"
#include "workload/inputs.hpp"
#include "workload/safetensors.hpp"
#include "workload_files.hpp"
#include "workload_routing.hpp"

namespace blockmoe::workload {
namespace {

using testing::rows_by_local_expert;
using testing::TempFolder;

constexpr contract::Geometry kSmall{256, 128, 16, 4, 3, 4, 2};

Workload small_row(std::int64_t tokens = 5) {
  Workload row;
  row.uuid = "small";
  row.tokens = tokens;
  row.geometry = kSmall;
  row.local_expert_offset = 4;
  row.seed = 11;
  return row;
}

InputOptions options_of(Profile profile = Profile::official, const Skew& skew = {}, const std::string& root = "") {
  InputOptions options;
  options.profile = profile;
  options.skew = skew;
  options.dataset_root = root;
  return options;
}

Inputs make(const Workload& row, const InputOptions& options) {
  auto inputs = InputMaker(options).make(row);
  EXPECT_TRUE(inputs.ok()) << inputs.status().message();
  return inputs.ok() ? std::move(inputs).value() : Inputs();
}

// All bytes of all tensors.
std::string bytes_of(const Inputs& inputs) {
  const contract::Geometry& g = inputs.geometry;
  const std::int64_t tokens = inputs.tokens();
  std::string bytes;
  const auto add = [&](const void* data, std::int64_t count, std::size_t each) {
    bytes.append(static_cast<const char*>(data), static_cast<std::size_t>(count) * each);
  };
  const contract::Weights& w = inputs.weights;
  const contract::Activations& a = inputs.activations;
  add(a.routing_logits, tokens * g.experts, a.routing_logits_type == contract::FloatType::f32 ? 4 : 2);
  add(w.routing_bias, g.experts, w.routing_bias_type == contract::FloatType::f32 ? 4 : 2);
  add(a.hidden, tokens * g.hidden, 1);
  add(a.hidden_scale, tokens * g.hidden_blocks(), 4);
  add(w.w13, g.local_experts * 2 * g.intermediate * g.hidden, 1);
  add(w.w13_scale, g.local_experts * 2 * g.intermediate_blocks() * g.hidden_blocks(), 4);
  add(w.w2, g.local_experts * g.hidden * g.intermediate, 1);
  add(w.w2_scale, g.local_experts * g.hidden_blocks() * g.intermediate_blocks(), 4);
  return bytes;
}

TEST(workload_inputs, words_name_profiles_and_skews) {
  for (const char* word : {"official", "model"}) EXPECT_EQ(to_string(parse_profile(word).value()), word);
  for (const char* word : {"even", "zipf:1.2", "all_on_one", "one_row", "none_local"}) {
    EXPECT_EQ(to_string(parse_skew(word).value()), word);
  }
  EXPECT_EQ(to_string(parse_skew("zipf").value()), "zipf:1");
  EXPECT_EQ(parse_profile("odd").status().message(), "profile: is \"odd\", expected official or model");
  for (const char* word : {"", "zipf:", "zipf:x", "zipf:-1", "zipf:17", "zipf:1 ", "zipf:nan", "odd"}) {
    EXPECT_EQ(parse_skew(word).status().message(),
              "skew: is \"" + std::string(word) +
                  "\", expected even, zipf, zipf:S with S in 0..16, all_on_one, one_row or none_local");
  }
}

TEST(workload_inputs, all_tensors_are_there_and_aligned) {
  for (const Profile profile : {Profile::official, Profile::model}) {
    const Inputs inputs = make(small_row(), options_of(profile));
    const contract::Weights& w = inputs.weights;
    const contract::Activations& a = inputs.activations;
    for (const void* data : std::initializer_list<const void*>{a.routing_logits, w.routing_bias, a.hidden,
                                                               a.hidden_scale, w.w13, w.w13_scale, w.w2, w.w2_scale}) {
      ASSERT_NE(data, nullptr);
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(data) % 64, 0U);
    }
    EXPECT_EQ(inputs.geometry, kSmall);
    EXPECT_EQ(inputs.tokens(), 5);
    EXPECT_EQ(w.local_expert_offset, 4);
    EXPECT_EQ(w.routed_scaling_factor, 2.5F);
    EXPECT_EQ(a.routing_logits_pitch, 16);
    EXPECT_EQ(a.hidden_pitch, 256);
    EXPECT_EQ(a.hidden_scale_pitch, 5);
    EXPECT_EQ(a.output, nullptr);
  }
}

TEST(workload_inputs, official_scales_have_both_signs_and_model_scales_are_positive) {
  const Inputs official = make(small_row(40), options_of(Profile::official));
  const Inputs model = make(small_row(40), options_of(Profile::model));
  const auto negative = [](const float* scales, std::int64_t count) {
    return std::count_if(scales, scales + count, [](float scale) { return scale < 0; });
  };
  EXPECT_GT(negative(official.activations.hidden_scale, 80), 20);
  EXPECT_GT(negative(official.weights.w13_scale, 16), 2);
  EXPECT_EQ(negative(model.activations.hidden_scale, 80), 0);
  EXPECT_EQ(negative(model.weights.w13_scale, 16), 0);
  EXPECT_EQ(negative(model.weights.w2_scale, 8), 0);
}

TEST(workload_inputs, bytes_do_not_depend_on_threads) {
  for (const Profile profile : {Profile::official, Profile::model}) {
    InputOptions one = options_of(profile), three = options_of(profile);
    one.threads = 1;
    three.threads = 3;
    EXPECT_EQ(bytes_of(make(small_row(50), one)), bytes_of(make(small_row(50), three)));
  }
}

TEST(workload_inputs, zero_tokens_are_a_call) {
  const Inputs inputs = make(small_row(0), options_of(Profile::model));
  EXPECT_EQ(inputs.tokens(), 0);
  EXPECT_NE(inputs.activations.hidden, nullptr);
  EXPECT_NE(inputs.weights.w13, nullptr);
}

TEST(workload_inputs, weights_stay_where_they_are_for_rows_that_share_them) {
  InputMaker maker(options_of());
  const Inputs first = maker.make(small_row(3)).value();
  Workload other = small_row(9);
  other.seed = 12;
  const Inputs second = maker.make(other).value();
  EXPECT_EQ(first.weights.w13, second.weights.w13);
  EXPECT_EQ(first.weights.w2_scale, second.weights.w2_scale);
  EXPECT_NE(first.activations.hidden, second.activations.hidden) << "the first is still held";
}

TEST(workload_inputs, memory_that_is_held_is_never_written_again) {
  InputMaker maker(options_of());
  const Inputs first = maker.make(small_row(3)).value();
  const std::string before = bytes_of(first);
  Workload other = small_row(9);
  other.seed = 12;
  other.weights_seed = 1;
  const Inputs second = maker.make(other).value();
  EXPECT_EQ(bytes_of(first), before);
  EXPECT_NE(first.weights.w13, second.weights.w13);
  EXPECT_EQ(bytes_of(second), bytes_of(make(other, options_of())));
}

TEST(workload_inputs, memory_that_nobody_holds_is_used_again) {
  InputMaker maker(options_of());
  const void* where = maker.make(small_row(9)).value().activations.hidden;
  EXPECT_EQ(maker.make(small_row(5)).value().activations.hidden, where);
}

TEST(workload_inputs, official_inputs_say_that_logits_and_bias_are_drawn) {
  EXPECT_EQ(
      make(small_row(), options_of()).notes,
      std::vector<std::string>{"routing_logits and routing_bias are drawn: the row names no file of the data set"});
  EXPECT_TRUE(make(small_row(), options_of(Profile::model)).notes.empty());
}

// A data set with the logits and the bias of `row`, which refers to it.
void add_files(Workload& row, const TempFolder& root, ElementType logits_type = ElementType::f32) {
  const std::vector<float> logits(static_cast<std::size_t>(row.tokens * row.geometry.experts), 0.25F);
  const std::vector<std::uint16_t> bias(static_cast<std::size_t>(row.geometry.experts), 0x3f80);
  const std::size_t logit_bytes = logits.size() * type_bytes(logits_type);
  std::filesystem::create_directories(root.path("blob"));
  ASSERT_TRUE(write_safetensors(root.path("blob/f.safetensors"), {{"l",
                                                                   {logits_type,
                                                                    {row.tokens, row.geometry.experts},
                                                                    reinterpret_cast<const std::byte*>(logits.data()),
                                                                    logit_bytes}},
                                                                  {"b",
                                                                   {ElementType::bf16,
                                                                    {row.geometry.experts},
                                                                    reinterpret_cast<const std::byte*>(bias.data()),
                                                                    bias.size() * 2}}})
                  .ok());
  row.files["routing_logits"] = {"./blob/f.safetensors", "l"};
  row.files["routing_bias"] = {"./blob/f.safetensors", "b"};
}

TEST(workload_inputs, files_of_the_data_set_are_used) {
  const TempFolder root;
  Workload row = small_row();
  add_files(row, root);
  const Inputs inputs = make(row, options_of(Profile::official, {}, root.path()));
  EXPECT_TRUE(inputs.notes.empty());
  EXPECT_EQ(static_cast<const float*>(inputs.activations.routing_logits)[79], 0.25F);
  EXPECT_EQ(static_cast<const std::uint16_t*>(inputs.weights.routing_bias)[15], 0x3f80);
  EXPECT_EQ(inputs.weights.routing_bias_type, contract::FloatType::bf16);
}

TEST(workload_inputs, the_environment_names_the_data_set) {
  const TempFolder root;
  ASSERT_EQ(::setenv("FIB_DATASET_PATH", root.path().c_str(), 1), 0);
  EXPECT_EQ(InputOptions().dataset_root, root.path());
  ASSERT_EQ(::unsetenv("FIB_DATASET_PATH"), 0);
  EXPECT_EQ(InputOptions().dataset_root, "");
}

TEST(workload_inputs, files_that_are_not_there_are_drawn_and_said_so) {
  const TempFolder root, empty;
  Workload row = small_row();
  add_files(row, root);
  const Inputs drawn = make(row, options_of(Profile::official, {}, empty.path()));
  EXPECT_EQ(drawn.notes, std::vector<std::string>{"routing_logits and routing_bias are drawn: " +
                                                  empty.path("blob/f.safetensors") + " is not there"});
  EXPECT_EQ(bytes_of(drawn), bytes_of(make(small_row(), options_of())));
  EXPECT_EQ(make(row, options_of()).notes,
            std::vector<std::string>{"routing_logits and routing_bias are drawn: FIB_DATASET_PATH is not set"});
}

TEST(workload_inputs, skewed_logits_are_drawn_even_where_a_file_has_some) {
  const TempFolder root;
  Workload row = small_row();
  add_files(row, root);
  const Inputs inputs = make(row, options_of(Profile::official, {Skew::Kind::zipf, 1.0}, root.path()));
  EXPECT_EQ(inputs.notes, std::vector<std::string>{"routing_logits is drawn: skew zipf:1"});
  EXPECT_EQ(static_cast<const std::uint16_t*>(inputs.weights.routing_bias)[15], 0x3f80);
}

TEST(workload_inputs, files_that_are_wrong_are_errors) {
  const TempFolder root;
  const InputOptions options = options_of(Profile::official, {}, root.path());
  const auto error = [&](Workload row, const std::function<void(Workload&)>& change,
                         ElementType type = ElementType::f32) {
    add_files(row, root, type);
    change(row);
    return InputMaker(options).make(row).status().message();
  };
  const std::string file = root.path("blob/f.safetensors") + ": ";
  EXPECT_EQ(error(small_row(), [](Workload& row) { row.tokens = 6; }),
            file + "tensor \"l\": shape [5, 16], expected [6, 16]");
  EXPECT_EQ(error(small_row(), [](Workload& row) { row.files["routing_logits"].tensor_key = "x"; }),
            file + "tensor \"x\": is not there");
  EXPECT_EQ(error(small_row(), [](Workload&) {}, ElementType::i32), file + "tensor \"l\": type I32, expected F32");
  root.write("broken", "123");
  EXPECT_EQ(error(small_row(), [](Workload& row) { row.files["routing_logits"].path = "broken"; }),
            root.path("broken") + ": 3 bytes, expected at least 8 (truncated?)");
}

TEST(workload_inputs, a_wrong_geometry_is_refused) {
  Workload row = small_row();
  row.geometry.hidden = 100;
  EXPECT_EQ(InputMaker(options_of()).make(row).status().message(), "hidden: is 100, expected 128..65536");
}

TEST(workload_inputs, the_public_form_describes_the_same_memory) {
  const Inputs inputs = make(small_row(), options_of());
  const blockmoe::Weights w = inputs.public_weights();
  const blockmoe::Activations a = inputs.public_activations();
  EXPECT_EQ(w.gemm1_weights.data, inputs.weights.w13);
  EXPECT_EQ(w.gemm1_weights.rank, 3);
  EXPECT_EQ(w.gemm1_weights.dim(1), 256);
  EXPECT_EQ(w.gemm1_weights_scale.dim(2), 2);
  EXPECT_EQ(w.gemm2_weights.dim(2), 128);
  EXPECT_EQ(w.routing_bias.dtype, DType::bfloat16);
  EXPECT_EQ(w.local_expert_offset, 4);
  EXPECT_EQ(a.hidden_states.dim(0), 5);
  EXPECT_EQ(a.hidden_states_scale.dim(0), 2);
  EXPECT_EQ(a.hidden_states_scale.step(0), 5);
  EXPECT_EQ(a.routing_logits.data, inputs.activations.routing_logits);
  EXPECT_EQ(inputs.public_geometry().top_k, 3);
  EXPECT_EQ(inputs.public_geometry().hidden, 256);
}

TEST(workload_inputs, a_call_of_the_first_tokens_has_their_rows) {
  for (const Profile profile : {Profile::official, Profile::model}) {
    const Inputs whole = make(small_row(40), options_of(profile));
    for (const std::int64_t tokens : {0, 1, 7, 40}) {
      const Inputs first = first_tokens(whole, tokens).value();
      const contract::Activations &a = first.activations, &all = whole.activations;
      EXPECT_EQ(first.tokens(), tokens);
      EXPECT_EQ(first.weights.w13, whole.weights.w13);
      EXPECT_EQ(a.routing_logits, all.routing_logits);
      EXPECT_EQ(a.hidden, all.hidden);
      EXPECT_EQ(first.public_activations().hidden_states_scale.step(0), tokens);
      for (std::int64_t block = 0; block < kSmall.hidden_blocks(); ++block) {
        for (std::int64_t token = 0; token < tokens; ++token) {
          ASSERT_EQ(a.hidden_scale[block * tokens + token], all.hidden_scale[block * 40 + token]);
        }
      }
    }
    EXPECT_EQ(bytes_of(first_tokens(whole, 40).value()), bytes_of(whole));
  }
}

TEST(workload_inputs, what_is_saved_is_loaded) {
  const TempFolder folder;
  const Inputs inputs = make(small_row(), options_of(Profile::model));
  ASSERT_TRUE(save_inputs(folder.path("f"), inputs).ok());
  LoadOptions options;
  options.top_k = 3;
  options.n_group = 4;
  options.topk_group = 2;
  const auto loaded = load_inputs(folder.path("f"), options);
  ASSERT_TRUE(loaded.ok()) << loaded.status().message();
  EXPECT_EQ(loaded.value().geometry, kSmall);
  EXPECT_EQ(loaded.value().weights.local_expert_offset, 4);
  EXPECT_EQ(loaded.value().weights.routed_scaling_factor, 2.5F);
  EXPECT_EQ(bytes_of(loaded.value()), bytes_of(inputs));
}

TEST(workload_inputs, loading_names_the_file_and_the_tensor_that_is_wrong) {
  const TempFolder folder;
  const std::string path = folder.path("f");
  LoadOptions options;
  options.top_k = 3;
  options.n_group = 4;
  options.topk_group = 2;
  ASSERT_TRUE(save_inputs(path, make(small_row(), options_of())).ok());
  const auto whole = SafetensorsFile::open(path);
  ASSERT_TRUE(whole.ok());

  const auto error = [&](const std::function<void(std::map<std::string, TensorView>&)>& change) {
    std::map<std::string, TensorView> tensors = whole.value().tensors();
    change(tensors);
    const std::string changed = folder.path("changed");
    EXPECT_TRUE(write_safetensors(changed, tensors).ok());
    const auto loaded = load_inputs(changed, options);
    return loaded.ok() ? std::string("no error") : loaded.status().message();
  };
  using Tensors = std::map<std::string, TensorView>;
  const std::string file = folder.path("changed") + ": ";
  EXPECT_EQ(error([](Tensors&) {}), "no error");
  EXPECT_EQ(error([](Tensors& t) { t.erase("routing_bias"); }), "no error") << "absent counts as zeros";
  EXPECT_EQ(error([](Tensors& t) { t.erase("gemm1_weights"); }), file + "tensor \"gemm1_weights\": is not there");
  EXPECT_EQ(error([](Tensors& t) { t["gemm2_weights"].shape = {4, 256 * 128}; }),
            file + "tensor \"gemm2_weights\": shape [4, 32768], expected 3 dimensions");
  EXPECT_EQ(error([](Tensors& t) { t["gemm2_weights"].shape = {2, 512, 128}; }),
            file + "tensor \"hidden_states\": shape [5, 256], expected [5, 512]");
  EXPECT_EQ(error([](Tensors& t) { t["gemm2_weights"].shape = {4, 1, 32768}; }),
            file + "hidden: is 1, expected 128..65536");
  EXPECT_EQ(error([](Tensors& t) { t["gemm1_weights_scale"].shape = {4, 1, 4}; }),
            file + "tensor \"gemm1_weights_scale\": shape [4, 1, 4], expected [4, 2, 2]");
  EXPECT_EQ(error([](Tensors& t) { t["hidden_states"].type = ElementType::f8_e5m2; }),
            file + "tensor \"hidden_states\": type F8_E5M2, expected F8_E4M3");
  EXPECT_EQ(error([](Tensors& t) { t["hidden_states"].type = ElementType::u8; }), "no error");
  EXPECT_EQ(error([](Tensors& t) { t["local_expert_offset"].type = ElementType::f32; }),
            file + "tensor \"local_expert_offset\": F32 of shape [], expected one I32 or I64");
}

TEST(workload_inputs, tensors_that_lie_unaligned_in_a_file_are_copied) {
  const TempFolder root;
  const std::string header = R"({"pad":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                             R"("l":{"dtype":"F32","shape":[1,16],"data_offsets":[1,65]}})";
  std::string file(8, '\0');
  file[0] = static_cast<char>(header.size());
  file += header + '\0';
  for (int i = 0; i < 16; ++i) {
    const auto value = static_cast<float>(i);
    file.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  root.write("f", file);
  Workload row = small_row(1);
  row.files["routing_logits"] = {"f", "l"};
  const Inputs inputs = make(row, options_of(Profile::model, {}, root.path()));
  const auto* logits = static_cast<const float*>(inputs.activations.routing_logits);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(logits) % alignof(float), 0U);
  for (int i = 0; i < 16; ++i) EXPECT_EQ(logits[i], static_cast<float>(i));
}

// 64 tokens of DeepSeek-V3's routing over narrow experts.
std::vector<std::int64_t> skewed_rows(const Skew& skew, std::int64_t tokens = 64, std::uint64_t seed = 5) {
  Workload row;
  row.uuid = "skewed";
  row.tokens = tokens;
  row.geometry = {128, 128, 256, 32, 8, 8, 4};
  row.local_expert_offset = 64;
  row.seed = seed;
  return rows_by_local_expert(make(row, options_of(Profile::model, skew)));
}

TEST(workload_inputs, even_routing_gives_a_row_a_token) {
  const auto rows = skewed_rows({}, 4096);
  const auto sum = static_cast<double>(std::accumulate(rows.begin(), rows.end(), std::int64_t{0}));
  EXPECT_NEAR(sum / 4096, 1.0, 0.1);
  EXPECT_LT(*std::max_element(rows.begin(), rows.end()), 4096 / 32 * 3 / 2);
}

TEST(workload_inputs, zipf_routing_has_popular_experts) {
  const auto rows = skewed_rows({Skew::Kind::zipf, 1.0}, 4096);
  const std::int64_t sum = std::accumulate(rows.begin(), rows.end(), std::int64_t{0});
  EXPECT_GT(*std::max_element(rows.begin(), rows.end()), sum / 32 * 4);
}

TEST(workload_inputs, all_on_one_gives_one_local_expert_every_token) {
  std::vector<std::int64_t> expected(32);
  expected[0] = 64;
  EXPECT_EQ(skewed_rows({Skew::Kind::all_on_one, 1.0}), expected);
}

TEST(workload_inputs, one_row_gives_one_local_expert_a_single_row_and_the_others_theirs) {
  const auto even = skewed_rows({}, 4096);
  const auto rows = skewed_rows({Skew::Kind::one_row, 1.0}, 4096);
  EXPECT_EQ(rows[0], 1);
  // With these the first token's other logits as they were drawn would keep the hot expert's group out.
  for (const std::uint64_t seed : {72U, 172U, 206U}) EXPECT_EQ(skewed_rows({Skew::Kind::one_row, 1.0}, 1, seed)[0], 1);
  for (std::size_t expert = 1; expert < rows.size(); ++expert) {
    EXPECT_NEAR(static_cast<double>(rows[expert]), static_cast<double>(even[expert]), 16.0) << expert;
  }
}

TEST(workload_inputs, none_local_gives_no_rows) {
  EXPECT_EQ(skewed_rows({Skew::Kind::none_local, 1.0}), std::vector<std::int64_t>(32));
}

TEST(workload_inputs, shipped_seeds_give_representative_routing) {
  auto rows = read_workloads(WORKLOADS "/deepseek_v3.jsonl", "");
  ASSERT_TRUE(rows.ok()) << rows.status().message();
  for (Workload& row : rows.value()) {
    if (row.tokens > 1000) continue;                        // as good as sure, and slow to sort
    row.geometry.hidden = row.geometry.intermediate = 128;  // routing does not see them
    const auto by_expert = rows_by_local_expert(make(row, options_of()));
    const std::int64_t sum = std::accumulate(by_expert.begin(), by_expert.end(), std::int64_t{0});
    if (row.tokens == 1) {
      EXPECT_GE(sum, 3) << "zeros would pass for a result";
    } else {
      EXPECT_NEAR(static_cast<double>(sum), static_cast<double>(row.tokens),
                  1.0 + 0.05 * static_cast<double>(row.tokens));
    }
  }
}

}  // namespace
}  // namespace blockmoe::workload
