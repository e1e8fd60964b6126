// sha256.h: FIPS 180-4's SHA-256, for cubins: they run on the device, so what is loaded must be what was listed. Host; nothing of CUDA.
//
// Our own, and small, because no library fits: libblockmoe stands on the standard library alone (tests/outside looks), and a static
// libcrypto would bring several megabytes for this one function.
#pragma once

#include <cstddef>
#include <string>

namespace blockmoe::kernels::blackwell::trtllm {

// 64 lower-case hexadecimal digits.
std::string sha256(const void* data, std::size_t bytes);

}  // namespace blockmoe::kernels::blackwell::trtllm
