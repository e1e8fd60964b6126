// cubin_file.h: where the cubins lie, and reading one so that only what was listed is ever loaded. Host; nothing of CUDA.
//
// A folder of cubins is flashinfer-cubin's `batched_gemm-<hash>`: a file for each configuration, and include/ with the export headers
// and the list of configurations, each with its cubin's sha256. Nothing is ever downloaded.
#pragma once

#include <string>
#include <vector>

namespace blockmoe::kernels::blackwell::trtllm {

inline constexpr const char* kPackage = "flashinfer-cubin (PyPI, 0.6.8.post1 or later)";
inline constexpr const char* kFolderVariable = "BLOCKMOE_TRTLLM_CUBIN_DIR";

// The folder that the environment names, or the one whose headers the library was built with; read once a process, at the first call.
const std::string& cubin_folder();

// "Bmm_..._sm100f.cubin", of the function "bmm_..._sm100f".
std::string cubin_name(const std::string& function);

// The file's bytes, once they have the hash; else none, and why. `sha256` is 64 hexadecimal digits.
bool read_cubin(const std::string& folder, const std::string& function, const std::string& sha256,
                std::vector<char>* bytes, std::string* why_not);

}  // namespace blockmoe::kernels::blackwell::trtllm
