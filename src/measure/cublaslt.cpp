// cublaslt.cpp: see cublaslt.hpp.
#include "measure/cublaslt.hpp"

#include <dlfcn.h>

#include <string>
#include <type_traits>

namespace blockmoe::measure::cublaslt {

Result<Functions> load() {
  constexpr const char* kFile = "libcublasLt.so.13";
  void* library = nullptr;
  for (const std::string& name : {std::string(kFile), std::string("/usr/local/cuda/lib64/") + kFile})
    if (library == nullptr) library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return Status(StatusCode::unsupported, std::string(kFile) + " is not found");
  Functions f;
  const char* missing = nullptr;
  const auto find = [&](auto& function, const char* name) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
    if (function == nullptr) missing = name;
  };
  find(f.create, "cublasLtCreate");
  find(f.destroy, "cublasLtDestroy");
  find(f.desc_create, "cublasLtMatmulDescCreate");
  find(f.desc_destroy, "cublasLtMatmulDescDestroy");
  find(f.desc_set, "cublasLtMatmulDescSetAttribute");
  find(f.layout_create, "cublasLtMatrixLayoutCreate");
  find(f.layout_destroy, "cublasLtMatrixLayoutDestroy");
  find(f.preference_create, "cublasLtMatmulPreferenceCreate");
  find(f.preference_destroy, "cublasLtMatmulPreferenceDestroy");
  find(f.preference_set, "cublasLtMatmulPreferenceSetAttribute");
  find(f.propose, "cublasLtMatmulAlgoGetHeuristic");
  find(f.multiply, "cublasLtMatmul");
  if (missing != nullptr) return Status(StatusCode::unsupported, std::string(kFile) + " has no " + missing);
  return f;
}

}  // namespace blockmoe::measure::cublaslt
