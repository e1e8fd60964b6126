// move_memory.hpp: another kernel's memory traffic, on multiprocessors that it shares with whatever else runs.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>

namespace blockmoe::test {

// Copies `bytes`, a multiple of 8192, `times` over, at the memory's full rate, with CTAs that fit beside others.
void launch_move_memory(void* to, const void* from, std::size_t bytes, int times, cudaStream_t stream);

}  // namespace blockmoe::test
