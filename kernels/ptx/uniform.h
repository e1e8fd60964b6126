// uniform.h: tells the compiler that a warp's lanes agree on a value.
#pragma once

namespace blockmoe::ptx {

// Lane 0's value, by a whole warp. Branches on it, and what is computed behind them from values of the same kind, are uniform to the
// compiler: one register and one instruction for the warp, and wgmma's descriptors where it wants them.
__device__ __forceinline__ int uniform(int value) {
  return __shfl_sync(0xffffffffu, value, 0);
}

}  // namespace blockmoe::ptx
