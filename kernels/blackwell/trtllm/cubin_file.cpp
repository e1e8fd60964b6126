#include "blackwell/trtllm/cubin_file.h"

#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "blackwell/trtllm/sha256.h"

// Whoever compiles this without the headers has no folder to name.
#if !defined(BLOCKMOE_TRTLLM_BUILT_WITH)
#define BLOCKMOE_TRTLLM_BUILT_WITH ""
#endif

namespace blockmoe::kernels::blackwell::trtllm {
namespace {

std::string hint() {
  return "; the cubins come with package " + std::string(kPackage) + ", or set " + kFolderVariable +
         " to its folder batched_gemm-<hash>";
}

}  // namespace

const std::string& cubin_folder() {
  static const std::string folder = [] {
    const char* const named = std::getenv(kFolderVariable);
    return std::string(named != nullptr && *named != '\0' ? named : BLOCKMOE_TRTLLM_BUILT_WITH);
  }();
  return folder;
}

std::string cubin_name(const std::string& function) {
  std::string name = function + ".cubin";
  name[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(name[0])));
  return name;
}

bool read_cubin(const std::string& folder, const std::string& function, const std::string& sha256,
                std::vector<char>* bytes, std::string* why_not) {
  namespace fs = std::filesystem;
  bytes->clear();
  std::error_code ignored;
  if (!fs::is_directory(folder, ignored)) {
    *why_not = "no folder \"" + folder + "\"" + hint();
    return false;
  }
  const std::string path = (fs::path(folder) / cubin_name(function)).string();
  if (!fs::is_regular_file(path, ignored)) {
    *why_not = path + ": no such file" + hint();
    return false;
  }
  std::ifstream file(path, std::ios::binary);
  bytes->assign(std::istreambuf_iterator<char>(file), {});
  if (!file) {
    bytes->clear();
    *why_not = path + ": can't be read";
    return false;
  }
  const std::string found = trtllm::sha256(bytes->data(), bytes->size());
  if (found == sha256) return true;
  *why_not = path + ": sha256 " + found + " (of " + std::to_string(bytes->size()) + " bytes), expected " + sha256;
  bytes->clear();
  return false;
}

}  // namespace blockmoe::kernels::blackwell::trtllm
