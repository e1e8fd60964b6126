// setmaxnreg.h: registers move from the warpgroups that copy to those that multiply.
//
// A multiple of 8 from 24 to 256; all warps of a warpgroup execute it. Takes effect only with __launch_bounds__ and where
// each role is one branch of a single if/else.
#pragma once

namespace blockmoe::ptx {

template <int kRegisters>
__device__ __forceinline__ void setmaxnreg_increase() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;\n" ::"n"(kRegisters));
}

template <int kRegisters>
__device__ __forceinline__ void setmaxnreg_decrease() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;\n" ::"n"(kRegisters));
}

}  // namespace blockmoe::ptx
