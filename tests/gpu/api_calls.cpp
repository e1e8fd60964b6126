// api_calls.cpp: see api_calls.hpp. CMakeLists.txt wraps the functions that kApiFunctions names there.
#include "api_calls.hpp"

#include <cuda_runtime_api.h>

#include <atomic>

namespace blockmoe::test {
namespace {

std::atomic<long> launches{0};
std::atomic<long> waits{0};
std::atomic<long> memory{0};

}  // namespace

ApiCalls api_calls() {
  return {launches, waits, memory};
}

}  // namespace blockmoe::test

// The linker sends calls of `name` to __wrap_name, and calls of __real_name to the runtime.
#define BLOCKMOE_COUNT(counter, name, parameters, arguments) \
  extern "C" cudaError_t __real_##name parameters;           \
  extern "C" cudaError_t __wrap_##name parameters;           \
  extern "C" cudaError_t __wrap_##name parameters {          \
    ++blockmoe::test::counter;                               \
    return __real_##name arguments;                          \
  }

BLOCKMOE_COUNT(launches, cudaLaunchKernel, (const void* f, dim3 g, dim3 b, void** a, size_t m, cudaStream_t s),
               (f, g, b, a, m, s))
BLOCKMOE_COUNT(launches, cudaLaunchKernelExC, (const cudaLaunchConfig_t* c, const void* f, void** a), (c, f, a))
BLOCKMOE_COUNT(waits, cudaDeviceSynchronize, (), ())
BLOCKMOE_COUNT(waits, cudaStreamSynchronize, (cudaStream_t s), (s))
BLOCKMOE_COUNT(waits, cudaEventSynchronize, (cudaEvent_t e), (e))
BLOCKMOE_COUNT(waits, cudaStreamQuery, (cudaStream_t s), (s))
BLOCKMOE_COUNT(memory, cudaMalloc, (void** p, size_t n), (p, n))
BLOCKMOE_COUNT(memory, cudaMallocAsync, (void** p, size_t n, cudaStream_t s), (p, n, s))
BLOCKMOE_COUNT(memory, cudaFree, (void* p), (p))
BLOCKMOE_COUNT(memory, cudaFreeAsync, (void* p, cudaStream_t s), (p, s))
BLOCKMOE_COUNT(memory, cudaMemcpy, (void* d, const void* s, size_t n, cudaMemcpyKind k), (d, s, n, k))
BLOCKMOE_COUNT(memory, cudaMemcpyAsync, (void* d, const void* s, size_t n, cudaMemcpyKind k, cudaStream_t t),
               (d, s, n, k, t))
BLOCKMOE_COUNT(memory, cudaMemset, (void* d, int v, size_t n), (d, v, n))
BLOCKMOE_COUNT(memory, cudaMemsetAsync, (void* d, int v, size_t n, cudaStream_t s), (d, v, n, s))
