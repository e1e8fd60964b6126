// count_differences.hpp: two outputs compared where they lie.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

namespace blockmoe::test {

// Adds to *count, on the device, how many of the `words` differ.
void launch_count_differences(const std::uint32_t* a, const std::uint32_t* b, std::size_t words, std::uint32_t* count,
                              cudaStream_t stream);

}  // namespace blockmoe::test
