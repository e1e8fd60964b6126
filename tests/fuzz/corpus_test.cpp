// corpus_test.cpp: the fuzzers' corpus, read once in every build and under every sanitizer.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "readers.hpp"

namespace blockmoe::fuzz {
namespace {

namespace fs = std::filesystem;

struct Reader {
  const char* name;
  Status (*read)(const std::uint8_t*, std::size_t);
};

class Corpus : public testing::TestWithParam<Reader> {
 protected:
  std::vector<fs::path> files(const std::string& prefix) const {
    std::vector<fs::path> found;
    for (const auto& entry : fs::directory_iterator(fs::path(CORPUS) / GetParam().name)) {
      if (entry.path().filename().string().rfind(prefix, 0) == 0) found.push_back(entry.path());
    }
    std::sort(found.begin(), found.end());
    return found;
  }

  Status read(const fs::path& path) const {
    std::ifstream file(path, std::ios::binary);
    const std::vector<char> bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    return GetParam().read(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
  }
};

TEST_P(Corpus, sound_files_are_read) {
  const auto sound = files("ok_");
  EXPECT_FALSE(sound.empty());
  for (const fs::path& path : sound) {
    const Status status = read(path);
    EXPECT_TRUE(status.ok()) << path << ": " << status.message();
  }
}

TEST_P(Corpus, broken_files_are_refused) {
  const auto broken = files("bad_");
  EXPECT_FALSE(broken.empty());
  for (const fs::path& path : broken) EXPECT_FALSE(read(path).ok()) << path;
}

TEST_P(Corpus, files_have_a_known_kind) {
  EXPECT_EQ(files("").size(), files("ok_").size() + files("bad_").size() + files("found_").size());
  for (const fs::path& path : files("found_")) {
    const Status status = read(path);  // traps where a promise is broken
    EXPECT_EQ(status.ok(), status.message().empty()) << path;
  }
}

INSTANTIATE_TEST_SUITE_P(readers, Corpus,
                         testing::Values(Reader{"jsonl", read_jsonl}, Reader{"safetensors", read_safetensors},
                                         Reader{"definition", read_definition}),
                         [](const auto& reader) { return std::string(reader.param.name); });

}  // namespace
}  // namespace blockmoe::fuzz
