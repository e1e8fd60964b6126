// griddepcontrol.h: programmatic dependent launch.
//
// Rules of the project: a call's first kernel is an ordinary launch; every CTA of every other kernel executes
// griddepcontrol_wait(). Then a kernel may read weights before its wait; and, where its predecessor lets it start only after
// the predecessor's own wait, what the kernels before that wrote. (pack gives the signal at once: the products read weights alone.)
#pragma once

namespace blockmoe::ptx {

// Waits until the kernels this one depends on have ended and their writes are visible. Nothing to wait for: no cost. Before
// sm_90 there is no such launch, and nothing to do.
__device__ __forceinline__ void griddepcontrol_wait() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;\n" ::: "memory");
#endif
}

// The dependent kernel may start once every CTA has said so or ended.
__device__ __forceinline__ void griddepcontrol_launch_dependents() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;\n" ::: "memory");
#endif
}

}  // namespace blockmoe::ptx
