// workload_safetensors_test.cpp: what is written is read again, and each broken rule is named.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <vector>

#include "workload/safetensors.hpp"
#include "workload_files.hpp"

namespace blockmoe::workload {
namespace {

using testing::TempFolder;

std::string length_of(std::uint64_t length) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes.push_back(static_cast<char>(length >> (8 * i)));
  return bytes;
}

std::string file_of(const std::string& header, std::size_t data_bytes) {
  return length_of(header.size()) + header + std::string(data_bytes, '\0');
}

const std::byte* bytes_of(const std::string& text) {
  return reinterpret_cast<const std::byte*>(text.data());
}

std::string error_of(const std::string& file) {
  const auto parsed = SafetensorsFile::parse(bytes_of(file), file.size(), "F");
  return parsed.ok() ? "no error" : parsed.status().message();
}

template <typename T>
TensorView view_of(ElementType type, std::vector<std::int64_t> shape, const std::vector<T>& values) {
  return {type, std::move(shape), reinterpret_cast<const std::byte*>(values.data()), values.size() * sizeof(T)};
}

TEST(workload_safetensors, what_is_written_is_read) {
  const TempFolder folder;
  const std::vector<float> floats = {1.5F, -2.0F, 3.0F, 0.0F, 5.0F, 6.0F};
  const std::vector<std::uint8_t> codes = {1, 2, 255};
  const std::vector<std::int64_t> wide = {-7};
  const std::map<std::string, TensorView> tensors = {{"codes", view_of(ElementType::f8_e4m3, {3}, codes)},
                                                     {"a \"quoted\" name\n", view_of(ElementType::f32, {2, 3}, floats)},
                                                     {"scalar", view_of(ElementType::i64, {}, wide)},
                                                     {"empty", {ElementType::bf16, {0, 7}, nullptr, 0}}};
  const std::string path = folder.path("f.safetensors");
  const Status written = write_safetensors(path, tensors, {{"made", "here"}});
  ASSERT_TRUE(written.ok()) << written.message();

  const auto file = SafetensorsFile::open(path);
  ASSERT_TRUE(file.ok()) << file.status().message();
  EXPECT_EQ(file.value().metadata(), (std::map<std::string, std::string>{{"made", "here"}}));
  ASSERT_EQ(file.value().tensors().size(), tensors.size());
  for (const auto& [name, expected] : tensors) {
    const auto found = file.value().find(name);
    ASSERT_TRUE(found.ok()) << name;
    EXPECT_EQ(found.value().type, expected.type);
    EXPECT_EQ(found.value().shape, expected.shape);
    ASSERT_EQ(found.value().bytes, expected.bytes);
    EXPECT_TRUE(std::equal(expected.data, expected.data + expected.bytes, found.value().data)) << name;
  }
}

TEST(workload_safetensors, written_tensors_are_aligned_to_their_type) {
  const TempFolder folder;
  const std::vector<std::uint8_t> odd = {1, 2, 3};
  const std::vector<double> wide = {1.0, 2.0};
  const std::vector<float> narrow = {1.0F};
  const std::string path = folder.path("f");
  ASSERT_TRUE(write_safetensors(path, {{"a", view_of(ElementType::u8, {3}, odd)},
                                       {"b", view_of(ElementType::f64, {2}, wide)},
                                       {"c", view_of(ElementType::f32, {1}, narrow)}})
                  .ok());
  const auto file = SafetensorsFile::open(path);
  ASSERT_TRUE(file.ok()) << file.status().message();
  for (const auto& [name, view] : file.value().tensors()) {
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(view.data) % type_bytes(view.type), 0U) << name;
  }
}

TEST(workload_safetensors, views_outlive_the_file_object_they_came_from) {
  const TempFolder folder;
  const std::vector<float> floats = {4.0F};
  ASSERT_TRUE(write_safetensors(folder.path("f"), {{"t", view_of(ElementType::f32, {1}, floats)}}).ok());
  std::optional<SafetensorsFile> copy;
  {
    const auto file = SafetensorsFile::open(folder.path("f"));
    ASSERT_TRUE(file.ok());
    copy = file.value();
  }
  float value = 0;
  std::memcpy(&value, copy->find("t").value().data, sizeof value);
  EXPECT_EQ(value, 4.0F);
}

TEST(workload_safetensors, a_write_that_fails_leaves_nothing) {
  const TempFolder folder;
  const Status status = write_safetensors(folder.path("none/f"), {});
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.message(), folder.path("none/f") + ".unfinished: can't be written (No such file or directory)");
  const std::vector<float> floats = {4.0F};
  const Status shape = write_safetensors(folder.path("f"), {{"t", view_of(ElementType::f32, {2}, floats)}});
  EXPECT_EQ(shape.message(), folder.path("f") + ": tensor \"t\": 4 bytes, expected shape times F32");
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(workload_safetensors, every_type_of_the_format_is_known) {
  for (const char* name : {"BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "I16", "U16", "F16", "BF16", "I32",
                           "U32", "F32", "I64", "U64", "F64"}) {
    const std::string file =
        file_of(R"({"a":{"dtype":")" + std::string(name) + R"(","shape":[0],"data_offsets":[0,0]}})", 0);
    const auto parsed = SafetensorsFile::parse(bytes_of(file), file.size(), "F");
    ASSERT_TRUE(parsed.ok()) << parsed.status().message();
    EXPECT_EQ(type_name(parsed.value().find("a").value().type), name);
  }
}

TEST(workload_safetensors, what_is_wrong_is_named_with_file_and_tensor) {
  const std::string a = R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]})";
  const auto entry = [](const std::string& type, const std::string& shape, const std::string& offsets) {
    return R"({"a":{"dtype":)" + type + R"(,"shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}";
  };
  struct Case {
    std::string file, message;
  };
  const std::string types =
      "BOOL, U8, I8, F8_E5M2, F8_E4M3, F8_E8M0, I16, U16, F16, BF16, I32, U32, F32, I64, U64, F64";
  const Case cases[] = {
      {"", "F: 0 bytes, expected at least 8 (truncated?)"},
      {"1234567", "F: 7 bytes, expected at least 8 (truncated?)"},
      {length_of(0), "F: header does not begin with '{'"},
      {length_of(9) + "{\"a\"", "F: header of 9 bytes, expected at most the 4 that follow (truncated?)"},
      {length_of(100'000'001), "F: header of 100000001 bytes, expected at most 100000000"},
      {length_of(1ULL << 63), "F: header of 9223372036854775808 bytes, expected at most 100000000"},
      {length_of(~0ULL), "F: header of 18446744073709551615 bytes, expected at most 100000000"},
      {file_of(" {}", 0), "F: header does not begin with '{'"},
      {file_of("{" + a + "}", 7), "F: tensor \"a\": data_offsets [0, 8], expected within the file's 7 bytes of data"},
      {file_of("{" + a + "}", 9), "F: tensors end at 8, expected at the end of the 9 bytes of data"},
      {file_of("{" + a + R"(,"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})", 12),
       "F: tensor \"b\": begins at 4, inside the tensor before it (to 8)"},
      {file_of("{" + a + R"(,"b":{"dtype":"U8","shape":[1],"data_offsets":[9,10]}})", 10),
       "F: tensor \"b\": begins at 9, after a hole from 8"},
      {file_of(entry("\"F32\"", "[2]", "[8,16]"), 16), "F: tensor \"a\": begins at 8, after a hole from 0"},
      {file_of(entry("\"F32\"", "[2]", "[8,0]"), 8),
       "F: tensor \"a\": data_offsets [8, 0], expected within the file's 8 bytes of data"},
      {file_of(entry("\"F32\"", "[3]", "[0,8]"), 8),
       "F: tensor \"a\": data_offsets hold 8 bytes, expected 12 (shape times F32)"},
      {file_of(entry("\"F31\"", "[2]", "[0,8]"), 8), R"(F: tensor "a": dtype "F31", expected one of )" + types},
      {file_of(entry("31", "[2]", "[0,8]"), 8), "F: tensor \"a\": 31, expected a string as dtype"},
      {file_of(entry("\"U8\"", "8", "[0,8]"), 8), "F: tensor \"a\": 8, expected an array as shape"},
      {file_of(entry("\"U8\"", "[-8]", "[0,8]"), 8), "F: tensor \"a\": -8, expected sizes of 0..2^63-1 in shape"},
      {file_of(entry("\"U8\"", "[8.0]", "[0,8]"), 8), "F: tensor \"a\": 8.0, expected sizes of 0..2^63-1 in shape"},
      {file_of(entry("\"U8\"", "[[8]]", "[0,8]"), 8),
       "F: tensor \"a\": an array, expected sizes of 0..2^63-1 in shape"},
      {file_of(entry("\"U8\"", "[9223372036854775808]", "[0,8]"), 8),
       "F: tensor \"a\": 9223372036854775808, expected sizes of 0..2^63-1 in shape"},
      {file_of(entry("\"U8\"", "[9223372036854775807]", "[0,8]"), 8),
       "F: tensor \"a\": data_offsets hold 8 bytes, expected 9223372036854775807 (shape times U8)"},
      {file_of(entry("\"U8\"", "[4294967296,4294967296]", "[0,0]"), 0),
       "F: tensor \"a\": the product of its shape is beyond 64 bits"},
      {file_of(entry("\"U8\"", "[8]", "[0,18446744073709551616]"), 8),
       "F: tensor \"a\": 18446744073709551616, expected two offsets of 0..2^64-1 in data_offsets"},
      {file_of(entry("\"U8\"", "[8]", "[0,18446744073709551615]"), 8),
       "F: tensor \"a\": data_offsets [0, 18446744073709551615], expected within the file's 8 bytes of data"},
      {file_of(entry("\"U8\"", "[8]", "[0]"), 8), "F: tensor \"a\": data_offsets has less than 2 numbers"},
      {file_of(entry("\"U8\"", "[8]", "[0,8,8]"), 8),
       "F: tensor \"a\": 8, expected two offsets of 0..2^64-1 in data_offsets"},
      {file_of("{" + a + "," + a + "}", 8), "F: header: \"a\" stands twice"},
      {file_of(R"({"a":{"dtype":"U8","dtype":"U8"}})", 0), "F: tensor \"a\": dtype stands twice"},
      {file_of(R"({"a":{"dtype":"U8","shape":[0]}})", 0), "F: tensor \"a\": data_offsets is not there"},
      {file_of(R"({"a":{}})", 0), "F: tensor \"a\": dtype is not there"},
      {file_of(R"({"a":{"x":1}})", 0), R"(F: tensor "a": key "x", expected dtype, shape or data_offsets)"},
      {file_of(R"({"a":null})", 0), "F: tensor \"a\": null, expected an object"},
      {file_of(R"({"__metadata__":{"k":1}})", 0), "F: __metadata__: 1, expected a string as metadata"},
      {file_of(R"({"__metadata__":{"k":"v","k":"v"}})", 0), "F: __metadata__: key \"k\" stands twice"},
      {file_of(R"({"__metadata__":{},"__metadata__":{}})", 0), "F: header: \"__metadata__\" stands twice"},
  };
  for (const Case& c : cases) EXPECT_EQ(error_of(c.file), c.message) << c.file;
}

TEST(workload_safetensors, what_json_forbids_is_refused) {
  for (const std::string header : {"{", "{} x", "{\"a\":", "{\"\xff\":{}}", "{'a':1}", "{\"a\":\"b\nc\"}"}) {
    EXPECT_EQ(error_of(file_of(header, 0)).rfind("F: ", 0), 0U) << header;
  }
}

TEST(workload_safetensors, every_prefix_of_a_file_is_refused) {
  const std::string whole = file_of(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 4);
  ASSERT_EQ(error_of(whole), "no error");
  for (std::size_t size = 0; size < whole.size(); ++size) {
    EXPECT_FALSE(SafetensorsFile::parse(bytes_of(whole), size, "F").ok()) << size;
  }
}

TEST(workload_safetensors, files_that_can_not_be_opened_are_named) {
  const TempFolder folder;
  const auto error = [](const std::string& path) { return SafetensorsFile::open(path).status().message(); };
  EXPECT_EQ(error(folder.path("none")), folder.path("none") + ": can't be opened (No such file or directory)");
  EXPECT_EQ(error(folder.path()), folder.path() + ": is not a regular file");
  const std::string empty = folder.write("empty", "");
  EXPECT_EQ(error(empty), empty + ": 0 bytes, expected at least 8 (truncated?)");
}

TEST(workload_safetensors, a_tensor_that_is_not_there_is_named) {
  const std::string file = file_of("{}", 0);
  const auto parsed = SafetensorsFile::parse(bytes_of(file), file.size(), "F");
  ASSERT_TRUE(parsed.ok());
  EXPECT_EQ(parsed.value().find("x").status().message(), "F: tensor \"x\": is not there");
}

}  // namespace
}  // namespace blockmoe::workload
