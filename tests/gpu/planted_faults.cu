// planted_faults.cu: one fault for each tool of compute-sanitizer, and one for the checks of builds with BLOCKMOE_CHECKED, to
// show that they find it: planted_faults NAME.
#include <cuda_runtime.h>

#include <cstdio>
#include <cstring>

#include "plan/sizes.h"
#include "stages/stages.h"

namespace {

constexpr int kTrapped = 87;  // exit code when a kernel stopped at a check; tools/test_gpu.py knows it

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

// One token whose only pick is said to be the row behind the last that a chunk can have. There is memory for it, so that nothing
// but combine's check is against it.
int row_beyond_the_chunk() {
  namespace plan = blockmoe::kernels::plan;
  namespace stages = blockmoe::kernels::stages;
  stages::Slab slab;
  slab.geometry = {128, 128, 1, 1, 1, 1, 1};
  slab.activations.tokens = 1;
  slab.activations.output_pitch = slab.geometry.hidden;
  slab.sizes = plan::sizes_of(slab.geometry, 1);
  slab.sms = 1;
  const plan::Offsets offsets = plan::offsets_of(slab.geometry, slab.sizes);
  const std::size_t output_bytes = sizeof(std::uint16_t) * 128;
  char* memory = nullptr;
  const std::size_t bytes = offsets.bytes + 2 * output_bytes;  // rows lie last: behind them is a row's room and more
  if (cudaMalloc(reinterpret_cast<void**>(&memory), bytes) != cudaSuccess) return 2;
  if (cudaMemset(memory, 0, bytes) != cudaSuccess) return 2;
  slab.workspace = stages::workspace_at(memory, offsets);
  slab.activations.output = reinterpret_cast<std::uint16_t*>(memory + offsets.bytes);
  const stages::Chunk chunk{0, 1, 1, 0};
  const auto row = static_cast<std::int32_t>(slab.sizes.row_capacity);
  if (cudaMemcpy(slab.workspace.chunks, &chunk, sizeof chunk, cudaMemcpyHostToDevice) != cudaSuccess) return 2;
  if (cudaMemcpy(slab.workspace.pick_row, &row, sizeof row, cudaMemcpyHostToDevice) != cudaSuccess) return 2;
  if (!stages::launch_combine(slab, 0, nullptr).ok()) return 2;
  return cudaDeviceSynchronize() == cudaSuccess ? 0 : kTrapped;
}

}  // namespace

int main(int argc, char** argv) {
  const char* const fault = argc == 2 ? argv[1] : "";
  if (std::strcmp(fault, "index") == 0) return row_beyond_the_chunk();
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
    std::fprintf(stderr, "usage: planted_faults memcheck|racecheck|initcheck|synccheck|index\n");
    return 2;
  }
  cudaDeviceSynchronize();
  return 0;
}
