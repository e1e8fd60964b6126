// planted_faults.cu: one fault for each tool of compute-sanitizer, to show that the tool finds it: planted_faults NAME.
#include <cuda_runtime.h>

#include <cstdio>
#include <cstring>

namespace {

__global__ void write_past_the_end(int* values, int count) {
  values[count] = 1;
}

__global__ void race_in_shared_memory(int* result) {
  __shared__ volatile int slots[64];
  slots[threadIdx.x] = static_cast<int>(threadIdx.x);
  result[threadIdx.x] = slots[63 - threadIdx.x];  // of another warp, without a barrier
}

__global__ void read_what_nobody_wrote(const int* values, int* result) {
  *result = values[threadIdx.x];
}

// Half of a block waits for all of it. The barrier that half reaches counts the threads of the whole block.
__global__ void barrier_in_divergent_code(int* result) {
  if (threadIdx.x < 16) __syncthreads();
  *result = 1;
}

}  // namespace

int main(int argc, char** argv) {
  const char* const fault = argc == 2 ? argv[1] : "";
  int* memory = nullptr;
  if (cudaMalloc(reinterpret_cast<void**>(&memory), 256 * sizeof(int)) != cudaSuccess) return 2;
  if (std::strcmp(fault, "memcheck") == 0) {
    write_past_the_end<<<1, 1>>>(memory, 256);
  } else if (std::strcmp(fault, "racecheck") == 0) {
    race_in_shared_memory<<<1, 64>>>(memory);
  } else if (std::strcmp(fault, "initcheck") == 0) {
    read_what_nobody_wrote<<<1, 32>>>(memory, memory + 128);
  } else if (std::strcmp(fault, "synccheck") == 0) {
    barrier_in_divergent_code<<<1, 32>>>(memory);
  } else {
    std::fprintf(stderr, "usage: planted_faults memcheck|racecheck|initcheck|synccheck\n");
    return 2;
  }
  cudaDeviceSynchronize();
  return 0;
}
