// The copy engine's boxes, rings of slots, and clusters, each against the host.
#include <array>

#include "hopper/ring.cuh"
#include "hopper/tensor_map.h"
#include "hopper_device.h"
#include "ptx/cluster.h"
#include "ptx/fence.h"
#include "ptx/griddepcontrol.h"
#include "ptx/setmaxnreg.h"
#include "ptx/tma.h"

namespace blockmoe::test {
namespace {

using kernels::hopper::make_tensor_map;
using kernels::hopper::Ring;
using kernels::hopper::RingConsumer;
using kernels::hopper::RingProducer;

enum class Policy { normal, evict_first, evict_last };

// One box at (column, row) of the map, as it lies in shared memory.
__global__ void copy_box(const __grid_constant__ CUtensorMap map, int column, int row, int bytes, Policy policy,
                         std::uint8_t* out) {
  extern __shared__ __align__(1024) std::uint8_t box[];
  __shared__ std::uint64_t barrier;
  if (threadIdx.x == 0) {
    ptx::prefetch_tensormap(&map);
    ptx::mbarrier_init(&barrier, 1);
    ptx::fence_mbarrier_init();
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    const std::uint64_t cache = policy == Policy::evict_first  ? ptx::l2_evict_first()
                                : policy == Policy::evict_last ? ptx::l2_evict_last()
                                                               : ptx::l2_evict_normal();
    ptx::mbarrier_arrive_expect_tx(&barrier, static_cast<std::uint32_t>(bytes));
    ptx::cp_async_bulk_tensor_2d(box, &map, column, row, &barrier, cache);
  }
  ptx::mbarrier_wait_parity(&barrier, 0);
  for (int i = static_cast<int>(threadIdx.x); i < bytes; i += static_cast<int>(blockDim.x)) out[i] = box[i];
}

class TmaBox : public HopperTest {};

TEST_F(TmaBox, every_box_arrives_swizzled_and_with_zeros_beyond_the_edge) {
  constexpr int kRows = 300, kColumns = 400;
  const std::vector<std::uint8_t> matrix = random_codes(kRows * kColumns, 7);
  const DeviceArray<std::uint8_t> device(matrix);
  struct Case {
    int box_rows, box_columns;
    CUtensorMapSwizzle swizzle;
    int span;  // bytes of the swizzle's row, 0 for none
  };
  const std::array<Case, 5> cases = {{{128, 128, CU_TENSOR_MAP_SWIZZLE_128B, 128},
                                      {64, 128, CU_TENSOR_MAP_SWIZZLE_128B, 128},
                                      {8, 128, CU_TENSOR_MAP_SWIZZLE_128B, 128},
                                      {128, 128, CU_TENSOR_MAP_SWIZZLE_NONE, 0},
                                      {16, 64, CU_TENSOR_MAP_SWIZZLE_NONE, 0}}};
  const std::array<std::array<int, 2>, 5> corners = {{{0, 0}, {128, 128}, {384, 256}, {272, 290}, {0, 299}}};
  for (const Case& c : cases) {
    CUtensorMap map;
    BLOCKMOE_CUDA_OK(make_tensor_map(&map, device.get(), kRows, kColumns, static_cast<std::uint32_t>(c.box_rows),
                                     static_cast<std::uint32_t>(c.box_columns), c.swizzle));
    const int bytes = c.box_rows * c.box_columns;
    for (const auto& corner : corners) {
      for (const Policy policy : {Policy::normal, Policy::evict_first, Policy::evict_last}) {
        const DeviceArray<std::uint8_t> out(static_cast<std::size_t>(bytes));
        copy_box<<<1, 128, static_cast<std::size_t>(bytes)>>>(map, corner[0], corner[1], bytes, policy, out.get());
        BLOCKMOE_CUDA_OK(cudaDeviceSynchronize());
        const std::vector<std::uint8_t> got = out.host();
        for (int i = 0; i < bytes; ++i) {
          const int row = i / c.box_columns, column = i % c.box_columns;
          const int source_row = corner[1] + row, source_column = corner[0] + column;
          const std::uint8_t expected = source_row < kRows && source_column < kColumns
                                            ? matrix[static_cast<std::size_t>(source_row * kColumns + source_column)]
                                            : 0;
          const int place = c.span == 0 ? i : row * 128 + ((column / 16) ^ (row % 8)) * 16 + column % 16;
          ASSERT_EQ(expected, got[static_cast<std::size_t>(place)])
              << "box " << c.box_rows << " x " << c.box_columns << " at (" << corner[0] << ", " << corner[1]
              << "), byte " << i;
        }
      }
    }
  }
}

// Each CTA of a cluster of two copies its half of the box to both.
__global__ void __cluster_dims__(2, 1, 1) copy_multicast(const __grid_constant__ CUtensorMap map, std::uint8_t* out) {
  __shared__ __align__(1024) std::uint8_t box[128 * 128];
  __shared__ std::uint64_t barrier;
  const std::uint32_t rank = ptx::cluster_cta_rank();
  if (threadIdx.x == 0) {
    ptx::mbarrier_init(&barrier, 1);
    ptx::fence_mbarrier_init();
  }
  ptx::cluster_sync();
  if (threadIdx.x == 0) {
    ptx::mbarrier_arrive_expect_tx(&barrier, sizeof box);
    ptx::cp_async_bulk_tensor_2d_multicast(box + rank * sizeof box / 2, &map, 0, static_cast<int>(rank) * 64, &barrier,
                                           0b11, ptx::l2_evict_normal());
  }
  ptx::mbarrier_wait_parity(&barrier, 0);
  for (std::uint32_t i = threadIdx.x; i < sizeof box; i += blockDim.x) out[blockIdx.x * sizeof box + i] = box[i];
  ptx::cluster_sync();
}

TEST_F(TmaBox, multicast_delivers_to_every_cta_of_the_cluster) {
  const std::vector<std::uint8_t> matrix = random_codes(128 * 128, 8);
  const DeviceArray<std::uint8_t> device(matrix);
  CUtensorMap map;
  BLOCKMOE_CUDA_OK(make_tensor_map(&map, device.get(), 128, 128, 64, 128, CU_TENSOR_MAP_SWIZZLE_NONE));
  const DeviceArray<std::uint8_t> out(4 * matrix.size());
  copy_multicast<<<4, 128>>>(map, out.get());
  BLOCKMOE_CUDA_OK(cudaDeviceSynchronize());
  const std::vector<std::uint8_t> got = out.host();
  for (std::size_t i = 0; i < got.size(); ++i) ASSERT_EQ(matrix[i % matrix.size()], got[i]) << i;
}

// Two producer warps, one writing numbers by hand and one copying them in bulk, and a consumer warpgroup that adds them up.
template <int kSlots>
__global__ void __launch_bounds__(256, 1)
    turn_ring(const __grid_constant__ CUtensorMap map, int fills, unsigned long long* sums) {
  __shared__ __align__(1024) std::uint32_t slots[kSlots][2][32];
  __shared__ Ring<kSlots> ring;
  if (threadIdx.x == 0) ring.init(2, 4);
  __syncthreads();
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  if (warp < 4) {
    ptx::setmaxnreg_decrease<24>();
    RingProducer<kSlots> producer(ring);
    for (int i = 0; warp < 2 && i < fills; ++i) {
      auto& slot = slots[producer.acquire()];
      if (warp == 0) {
        slot[0][lane] = static_cast<std::uint32_t>(i * 32 + lane);
        __syncwarp();
        if (lane == 0) producer.publish();
      } else if (lane == 0) {
        producer.announce(128);
        ptx::cp_async_bulk_tensor_2d(slot[1], &map, 0, i, producer.barrier(), ptx::l2_evict_normal());
      }
      producer.advance();
    }
  } else {
    ptx::setmaxnreg_increase<240>();
    RingConsumer<kSlots> consumer(ring);
    unsigned long long sum = 0;
    for (int i = 0; i < fills; ++i) {
      const auto& slot = slots[consumer.wait()];
      // Weighted with the order, so that a slot read twice or too early shows.
      sum += static_cast<unsigned long long>(i + 1) * (slot[0][lane] + 3ull * slot[1][lane]);
      __syncwarp();
      if (lane == 0) consumer.release();
      consumer.advance();
    }
    sums[threadIdx.x - 128] = sum;
  }
}

template <int kSlots>
void check_ring() {
  constexpr int kMostFills = 1000;
  std::vector<std::uint8_t> bytes(kMostFills * 128);
  std::vector<std::uint32_t> numbers(kMostFills * 32);
  for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<std::uint32_t>(i * 2654435761u >> 8);
  std::memcpy(bytes.data(), numbers.data(), bytes.size());
  const DeviceArray<std::uint8_t> device(bytes);
  CUtensorMap map;
  BLOCKMOE_CUDA_OK(make_tensor_map(&map, device.get(), kMostFills, 128, 1, 128, CU_TENSOR_MAP_SWIZZLE_NONE));
  for (int fills = 1; fills <= kMostFills; ++fills) {
    const DeviceArray<unsigned long long> sums(128);
    turn_ring<kSlots><<<1, 256>>>(map, fills, sums.get());
    BLOCKMOE_CUDA_OK(cudaDeviceSynchronize());
    const std::vector<unsigned long long> got = sums.host();
    for (std::size_t thread = 0; thread < 128; ++thread) {
      unsigned long long expected = 0;
      for (std::size_t i = 0; i < static_cast<std::size_t>(fills); ++i) {
        expected += (i + 1) * (i * 32 + thread % 32 + 3ull * numbers[i * 32 + thread % 32]);
      }
      ASSERT_EQ(expected, got[thread]) << "slots " << kSlots << ", fills " << fills << ", thread " << thread;
    }
  }
}

class RingOfSlots : public HopperTest {};

TEST_F(RingOfSlots, hands_over_every_fill_in_order_from_1_to_1000_fills) {
  check_ring<1>();
  check_ring<3>();
  check_ring<4>();
  check_ring<5>();
}

__global__ void exchange_ranks(std::uint32_t* seen) {
  __shared__ std::uint64_t barrier;
  if (threadIdx.x == 0) {
    ptx::mbarrier_init(&barrier, 2);
    ptx::fence_mbarrier_init();
  }
  ptx::cluster_sync();
  // Both CTAs arrive at both barriers.
  if (threadIdx.x < 2) ptx::mbarrier_arrive_remote(&barrier, threadIdx.x);
  ptx::mbarrier_wait_parity(&barrier, 0);
  if (threadIdx.x == 0) seen[blockIdx.x] = ptx::cluster_cta_rank();
  ptx::cluster_sync();
}

class ClusterOfTwo : public HopperTest {};

TEST_F(ClusterOfTwo, arrivals_reach_the_other_cta) {
  const DeviceArray<std::uint32_t> seen(8);
  cudaLaunchAttribute cluster{};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim = {2, 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(8);
  config.blockDim = dim3(64);
  config.attrs = &cluster;
  config.numAttrs = 1;
  BLOCKMOE_CUDA_OK(cudaLaunchKernelEx(&config, exchange_ranks, seen.get()));
  BLOCKMOE_CUDA_OK(cudaDeviceSynchronize());
  const std::vector<std::uint32_t> ranks = seen.host();
  for (std::size_t i = 0; i < ranks.size(); ++i) EXPECT_EQ(i % 2, ranks[i]);
}

__global__ void write_late(int* value, int what) {
  ptx::griddepcontrol_wait();
  ptx::griddepcontrol_launch_dependents();
  const long long start = clock64();
  while (clock64() - start < 100'000) {
  }
  if (threadIdx.x == 0) value[blockIdx.x] = what;
}

__global__ void add_after(const int* value, int* sum) {
  ptx::griddepcontrol_wait();
  if (threadIdx.x == 0) sum[blockIdx.x] = value[blockIdx.x] + 1;
}

class DependentLaunch : public HopperTest {};

TEST_F(DependentLaunch, waits_for_what_the_kernel_before_wrote) {
  const int ctas = properties_.multiProcessorCount;
  const DeviceArray<int> value(static_cast<std::size_t>(ctas)), sum(static_cast<std::size_t>(ctas));
  cudaLaunchAttribute programmatic{};
  programmatic.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  programmatic.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(ctas));
  config.blockDim = dim3(128);
  for (int round = 1; round <= 20; ++round) {
    config.attrs = nullptr;
    config.numAttrs = 0;
    BLOCKMOE_CUDA_OK(cudaLaunchKernelEx(&config, write_late, value.get(), round));
    config.attrs = &programmatic;
    config.numAttrs = 1;
    BLOCKMOE_CUDA_OK(cudaLaunchKernelEx(&config, add_after, static_cast<const int*>(value.get()), sum.get()));
    BLOCKMOE_CUDA_OK(cudaDeviceSynchronize());
    for (const int got : sum.host()) ASSERT_EQ(round + 1, got);
  }
}

}  // namespace
}  // namespace blockmoe::test
