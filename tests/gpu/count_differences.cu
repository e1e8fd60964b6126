#include "count_differences.hpp"

namespace blockmoe::test {
namespace {

__global__ void count_differences(const std::uint32_t* a, const std::uint32_t* b, std::size_t words,
                                  std::uint32_t* count) {
  for (std::size_t i = blockIdx.x * std::size_t{blockDim.x} + threadIdx.x; i < words;
       i += std::size_t{gridDim.x} * blockDim.x) {
    if (a[i] != b[i]) atomicAdd(count, 1u);
  }
}

}  // namespace

void launch_count_differences(const std::uint32_t* a, const std::uint32_t* b, std::size_t words, std::uint32_t* count,
                              cudaStream_t stream) {
  count_differences<<<256, 256, 0, stream>>>(a, b, words, count);
}

}  // namespace blockmoe::test
