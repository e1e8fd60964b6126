#pragma once

#include "cpu/call.hpp"

namespace blockmoe::cpu {

/// inter and inter_scale of the chunk's rows.
void gemm1(const Call& call, const Chunk& chunk);

}  // namespace blockmoe::cpu
