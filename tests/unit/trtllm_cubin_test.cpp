// Reading a cubin: its name, and that nothing but the bytes that were listed is ever handed on.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "blackwell/trtllm/cubin_file.h"
#include "blackwell/trtllm/sha256.h"

namespace blockmoe::test {
namespace {

namespace trtllm = kernels::blackwell::trtllm;
namespace fs = std::filesystem;

std::string hash_of(const std::string& text) {
  return trtllm::sha256(text.data(), text.size());
}

// FIPS 180-4's examples, from NIST.
TEST(Sha256, the_published_vectors) {
  EXPECT_EQ("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", hash_of(""));
  EXPECT_EQ("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", hash_of("abc"));
  EXPECT_EQ("248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
            hash_of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"));
  EXPECT_EQ(
      "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1",
      hash_of("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrst"
              "nopqrstu"));
  EXPECT_EQ("cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0", hash_of(std::string(1'000'000, 'a')));
}

// Around every place where the padding changes; the hash of all the hashes, as another program has it.
TEST(Sha256, every_length_from_0_to_300) {
  std::string hashes;
  for (std::size_t length = 0; length <= 300; ++length) hashes += hash_of(std::string(length, '\xa5'));
  EXPECT_EQ("e404ad52ceea62edf89c43d41e7a36e319f13a02432be7e102e7ca951eae2c70", hash_of(hashes));
}

constexpr const char* kFunction = "bmm_Bfloat16_small";

class ReadCubin : public testing::Test {
 protected:
  void SetUp() override {
    fs::create_directories(folder_);
    write(content_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  fs::path path() const { return folder_ / "Bmm_Bfloat16_small.cubin"; }
  void write(const std::string& content) const { std::ofstream(path(), std::ios::binary) << content; }

  // Why it was refused; empty where it was not.
  std::string read(const fs::path& folder, const std::string& expected) {
    std::string why_not;
    bytes_ = {'x'};
    const bool read = trtllm::read_cubin(folder.string(), kFunction, expected, &bytes_, &why_not);
    EXPECT_EQ(read, why_not.empty());
    EXPECT_TRUE(read || bytes_.empty()) << "of what was refused nothing is handed on";
    return why_not;
  }

  const fs::path folder_ =
      fs::path(testing::TempDir()) /
      ("blockmoe_cubins_" + std::string(testing::UnitTest::GetInstance()->current_test_info()->name()));
  const std::string content_ = "\177ELF, not one, but bytes";
  const std::string hash_ = hash_of(content_);
  std::vector<char> bytes_;
};

TEST_F(ReadCubin, what_was_listed_is_read_byte_by_byte) {
  EXPECT_EQ("", read(folder_, hash_));
  EXPECT_EQ(content_, std::string(bytes_.begin(), bytes_.end()));
}

TEST_F(ReadCubin, a_changed_byte_is_refused_with_file_found_and_expected) {
  std::string changed = content_;
  changed[20] ^= 1;
  write(changed);
  EXPECT_EQ(path().string() + ": sha256 " + hash_of(changed) + " (of 24 bytes), expected " + hash_,
            read(folder_, hash_));
}

TEST_F(ReadCubin, a_truncated_file_is_refused_with_the_bytes_that_it_has) {
  write(content_.substr(0, 7));
  EXPECT_EQ(path().string() + ": sha256 " + hash_of(content_.substr(0, 7)) + " (of 7 bytes), expected " + hash_,
            read(folder_, hash_));
}

TEST_F(ReadCubin, an_empty_file_is_refused) {
  write("");
  EXPECT_NE(std::string::npos, read(folder_, hash_).find("(of 0 bytes), expected " + hash_));
}

TEST_F(ReadCubin, a_hash_that_nobody_listed_matches_nothing) {
  EXPECT_NE("", read(folder_, ""));
  EXPECT_NE("", read(folder_, hash_.substr(0, 63)));
}

TEST_F(ReadCubin, a_missing_file_names_itself_and_the_package) {
  fs::remove(path());
  EXPECT_EQ(path().string() +
                ": no such file; the cubins come with package flashinfer-cubin (PyPI, 0.6.8.post1 or later), or set "
                "BLOCKMOE_TRTLLM_CUBIN_DIR to its folder batched_gemm-<hash>",
            read(folder_, hash_));
}

TEST_F(ReadCubin, a_folder_in_the_place_of_the_file_is_no_file) {
  fs::remove(path());
  fs::create_directory(path());
  EXPECT_NE(std::string::npos, read(folder_, hash_).find("no such file"));
}

TEST_F(ReadCubin, a_missing_folder_names_itself_the_package_and_the_variable) {
  for (const fs::path& folder : {folder_ / "not_there", fs::path()}) {
    const std::string why_not = read(folder, hash_);
    EXPECT_EQ(0U, why_not.find("no folder \"" + folder.string() + "\""));
    EXPECT_NE(std::string::npos, why_not.find("flashinfer-cubin"));
    EXPECT_NE(std::string::npos, why_not.find("BLOCKMOE_TRTLLM_CUBIN_DIR"));
  }
}

TEST(CubinName, begins_with_a_capital_as_the_package_has_it) {
  EXPECT_EQ("Bmm_E4m3_tile.cubin", trtllm::cubin_name("bmm_E4m3_tile"));
}

TEST(CubinFolder, the_environment_names_it) {
  ASSERT_EQ(0, setenv(trtllm::kFolderVariable, "/somewhere/batched_gemm-1", 1));
  EXPECT_EQ("/somewhere/batched_gemm-1", trtllm::cubin_folder());
}

}  // namespace
}  // namespace blockmoe::test
