// wgmma of every width against the host, operands laid out by hand in the swizzle that the kernels use.
#include "hopper_device.h"
#include "ptx/cp_async.h"
#include "ptx/fence.h"
#include "ptx/ldmatrix.h"
#include "ptx/wgmma.h"

namespace blockmoe::test {
namespace {

constexpr int kRows = ptx::kRowsOfWgmma;
constexpr int kDepth = 128;

enum class Fill { store, cp_async };

// D [64, N] = A [64, 128] * B [N, 128]^T by one warpgroup; row r of B comes from row `index[r]` of `b`, zeros from `valid` on.
template <int kWidth, Fill kFill>
__global__ void multiply_once(const std::uint8_t* a, const std::uint8_t* b, const int* index, int valid, float* d) {
  __shared__ __align__(1024) std::uint8_t tile_a[kRows * kDepth];
  __shared__ __align__(1024) std::uint8_t tile_b[kWidth * kDepth];
  const int thread = static_cast<int>(threadIdx.x);
  const auto place = [](int row, int chunk) { return row * kDepth + (chunk ^ (row % 8)) * 16; };
  for (int i = thread; i < kRows * 8; i += 128) {
    *reinterpret_cast<uint4*>(tile_a + place(i / 8, i % 8)) = reinterpret_cast<const uint4*>(a)[i];
  }
  for (int i = thread; i < kWidth * 8; i += 128) {
    const int row = i / 8;
    const std::uint8_t* const from = b + (row < valid ? index[row] : 0) * kDepth + i % 8 * 16;
    if (kFill == Fill::cp_async && row < valid) {
      ptx::cp_async_16(tile_b + place(row, i % 8), from);
    } else {
      *reinterpret_cast<uint4*>(tile_b + place(row, i % 8)) =
          row < valid ? *reinterpret_cast<const uint4*>(from) : make_uint4(0, 0, 0, 0);
    }
  }
  ptx::cp_async_commit();
  ptx::cp_async_wait<0>();
  ptx::fence_proxy_async_shared();
  __syncthreads();

  constexpr int kSteps = kDepth / ptx::kKOfWgmma;
  std::uint32_t rows[kSteps][4];
  const int lane = thread % 32;
#pragma unroll
  for (int k = 0; k < kSteps; ++k) {
    ptx::ldmatrix_x4(rows[k], tile_a + place(thread / 32 * 16 + lane % 16, 2 * k + lane / 16));
  }
  float sum[kWidth / 2];
  ptx::pin_registers(sum);
  ptx::wgmma_fence();
  const std::uint64_t from_a = ptx::k_major_descriptor(tile_a), from_b = ptx::k_major_descriptor(tile_b);
#pragma unroll
  for (int k = 0; k < kSteps; ++k) {
    if constexpr (kWidth == 128) {  // A from registers, as the kernels have it there
      ptx::WgmmaE4m3FromRegisters<kWidth>::issue(sum, rows[k], from_b + k * ptx::kKStep, k != 0);
    } else {
      ptx::WgmmaE4m3<kWidth>::issue(sum, from_a + k * ptx::kKStep, from_b + k * ptx::kKStep, k != 0);
    }
  }
  ptx::wgmma_commit_group();
  ptx::wgmma_wait_group<0>();
  ptx::pin_registers(sum);
  for (int i = 0; i < kWidth / 2; ++i) {
    const int row = thread / 32 * 16 + thread % 32 / 4 + i % 4 / 2 * 8;
    const int column = i / 4 * 8 + thread % 4 * 2 + i % 2;
    d[row * kWidth + column] = sum[i];
  }
}

template <typename T>
class WgmmaWidth : public HopperTest {};

template <int kWidth>
using Width = std::integral_constant<int, kWidth>;
using Widths = testing::Types<Width<8>, Width<16>, Width<24>, Width<32>, Width<40>, Width<48>, Width<56>, Width<64>,
                              Width<80>, Width<128>>;
TYPED_TEST_SUITE(WgmmaWidth, Widths);

template <int kWidth, Fill kFill>
void run(const std::vector<std::uint8_t>& a, const std::vector<std::uint8_t>& b, int valid, std::vector<float>* got,
         std::vector<double>* expected) {
  std::vector<int> index(kWidth);
  for (int n = 0; n < kWidth; ++n) index[static_cast<std::size_t>(n)] = n * 7 % kWidth;
  const DeviceArray<std::uint8_t> device_a(a), device_b(b);
  const DeviceArray<int> device_index(index);
  const DeviceArray<float> device_d(static_cast<std::size_t>(kRows * kWidth));
  multiply_once<kWidth, kFill><<<1, 128>>>(device_a.get(), device_b.get(), device_index.get(), valid, device_d.get());
  BLOCKMOE_CUDA_OK(cudaDeviceSynchronize());
  *got = device_d.host();
  expected->assign(got->size(), 0.0);
  for (int m = 0; m < kRows; ++m) {
    for (int n = 0; n < valid; ++n) {
      double sum = 0.0;
      for (int k = 0; k < kDepth; ++k) {
        sum += static_cast<double>(contract::e4m3_decode(a[static_cast<std::size_t>(m * kDepth + k)])) *
               contract::e4m3_decode(b[static_cast<std::size_t>(index[static_cast<std::size_t>(n)] * kDepth + k)]);
      }
      (*expected)[static_cast<std::size_t>(m * kWidth + n)] = sum;
    }
  }
}

TYPED_TEST(WgmmaWidth, integers_are_exact_and_rows_beyond_the_last_are_zero) {
  constexpr int kWidth = TypeParam::value;
  std::vector<float> got;
  std::vector<double> expected;
  for (int valid = kWidth - 7; valid <= kWidth; ++valid) {
    run<kWidth, Fill::cp_async>(integer_codes(kRows * kDepth, 1), integer_codes(kWidth * kDepth, 2), valid, &got,
                                &expected);
    for (std::size_t i = 0; i < got.size(); ++i)
      ASSERT_EQ(expected[i], got[i]) << "element " << i << ", valid " << valid;
  }
}

TYPED_TEST(WgmmaWidth, random_codes_agree_with_the_host_however_they_came_into_shared_memory) {
  constexpr int kWidth = TypeParam::value;
  std::vector<float> got;
  std::vector<double> expected;
  run<kWidth, Fill::store>(random_codes(kRows * kDepth, 3), random_codes(kWidth * kDepth, 4), kWidth, &got, &expected);
  EXPECT_LT(relative_l2(got, expected), 5e-4);
  run<kWidth, Fill::cp_async>(random_codes(kRows * kDepth, 5), random_codes(kWidth * kDepth, 6), kWidth, &got,
                              &expected);
  EXPECT_LT(relative_l2(got, expected), 5e-4);
}

}  // namespace
}  // namespace blockmoe::test
