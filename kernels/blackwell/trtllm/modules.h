// modules.h: kernels out of cubins, once a context. Host.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <cuda.h>

#include "blackwell/trtllm/configs.h"

namespace blockmoe::kernels::blackwell::trtllm {

// The cubin of configuration `index`, checked and kept; null, and why, where it is missing or not what was listed. What came of the
// first call holds for the process: neither the folder nor a file is looked at twice, and a module is made of the very bytes that were
// checked.
const std::vector<char>* checked_cubin(std::int32_t index, std::string* why_not);

// The configuration's kernel for the current context, its shared memory allowed. Of threads that ask for the first time at once one
// loads it and the others wait, so a context has one module of a cubin; it stays until the context goes.
CUresult load_kernel(const Config& config, const std::vector<char>& cubin, CUfunction* kernel);

}  // namespace blockmoe::kernels::blackwell::trtllm
