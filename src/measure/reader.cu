// reader.cu: see reader.hpp.
//
// The ranges are cut into pieces of one size (a range's last one may be shorter), numbered through and dealt out round-robin.
// They travel as a kernel parameter, so that no reader waits for a list in memory before it knows what to read.
#include "measure/reader.hpp"

#include <algorithm>
#include <cstddef>
#include <functional>

#include "measure/cuda_check.hpp"
#include "ptx/bulk_copy.h"
#include "ptx/mbarrier.h"

namespace blockmoe::measure {
namespace {

constexpr std::uint32_t kPlainPiece = 16384;

struct Ranges {
  static constexpr int kMax = 256;
  int count = 0;
  std::int64_t pieces = 0;
  std::uint32_t piece_bytes = 0;
  const char* data[kMax] = {};
  std::uint32_t first_piece[kMax] = {};  // of each range
  std::uint32_t tail_bytes[kMax] = {};   // of each range's last piece
};

struct Piece {
  const char* data;
  std::uint32_t bytes;
};

__device__ Piece piece_at(const Ranges& ranges, std::int64_t number) {
  int low = 0;
  for (int high = ranges.count; high - low > 1;) {
    const int middle = (low + high) / 2;
    if (ranges.first_piece[middle] <= number) {
      low = middle;
    } else {
      high = middle;
    }
  }
  const std::int64_t end = low + 1 < ranges.count ? ranges.first_piece[low + 1] : ranges.pieces;
  const std::int64_t offset = (number - ranges.first_piece[low]) * ranges.piece_bytes;
  return {ranges.data[low] + offset, number + 1 == end ? ranges.tail_bytes[low] : ranges.piece_bytes};
}

__global__ void read_nothing() {}

// A CTA of 512 threads reads a piece of 16 KiB with two independent 16-byte loads a thread; several CTAs an SM.
// The store can't happen for the data in use (a word of all ones is a NaN code in each byte), but the compiler does not know.
__global__ void __launch_bounds__(512) read_plain(const __grid_constant__ Ranges ranges, std::uint32_t* sink) {
  std::uint32_t all = 0xffffffffu;
  for (std::int64_t p = blockIdx.x; p < ranges.pieces; p += gridDim.x) {
    const Piece piece = piece_at(ranges, p);
    const auto* data = reinterpret_cast<const uint4*>(piece.data);
    const std::uint32_t words = piece.bytes / 16;
#pragma unroll
    for (std::uint32_t step = 0; step < kPlainPiece / 16; step += 512) {
      const std::uint32_t i = step + threadIdx.x;
      if (i < words) {
        const uint4 w = __ldcs(data + i);
        all &= w.x & w.y & w.z & w.w;
      }
    }
  }
  if (all == 0xffffffffu) *sink = all;
}

// One thread of a CTA an SM keeps kSlots copies of kBytes in flight; nobody looks at what arrives.
template <int kBytes, int kSlots>
struct RingShared {
  alignas(128) unsigned char slot[kSlots][kBytes];
  std::uint64_t full[kSlots];
};

template <int kBytes, int kSlots>
__global__ void __launch_bounds__(32) read_ring(const __grid_constant__ Ranges ranges) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  extern __shared__ unsigned char raw[];
  auto& shared =
      *reinterpret_cast<RingShared<kBytes, kSlots>*>(raw + (128 - reinterpret_cast<std::uintptr_t>(raw) % 128) % 128);
  if (threadIdx.x != 0) return;
  for (int s = 0; s < kSlots; ++s) ptx::mbarrier_init(&shared.full[s], 1);
  ptx::fence_mbarrier_init();
  const auto copy = [&](std::int64_t p, int s) {
    const Piece piece = piece_at(ranges, p);
    ptx::mbarrier_arrive_expect_tx(&shared.full[s], piece.bytes);
    ptx::cp_async_bulk(shared.slot[s], piece.data, piece.bytes, &shared.full[s]);
  };
  const std::int64_t count = ranges.pieces;
  const std::int64_t mine = count > blockIdx.x ? (count - blockIdx.x + gridDim.x - 1) / gridDim.x : 0;
  for (std::int64_t i = 0; i < mine && i < kSlots; ++i) copy(blockIdx.x + i * gridDim.x, static_cast<int>(i));
  for (std::int64_t i = 0; i < mine; ++i) {
    const int s = static_cast<int>(i % kSlots);
    ptx::mbarrier_wait_parity(&shared.full[s], static_cast<std::uint32_t>(i / kSlots) & 1u);
    if (i + kSlots < mine) copy(blockIdx.x + (i + kSlots) * gridDim.x, s);
  }
#endif
}

// Ranges that touch become one: with every expert active two are left.
Result<Ranges> cut(std::vector<ByteRange> given, std::uint32_t piece_bytes) {
  std::sort(given.begin(), given.end(),
            [](const ByteRange& a, const ByteRange& b) { return std::less<>()(a.data, b.data); });
  std::vector<ByteRange> merged;
  for (const ByteRange& range : given) {
    if (!merged.empty() && static_cast<const char*>(merged.back().data) + merged.back().bytes == range.data) {
      merged.back().bytes += range.bytes;
    } else {
      merged.push_back(range);
    }
  }
  if (merged.size() > Ranges::kMax) return Status(StatusCode::unsupported, "more than 256 separate ranges to read");
  Ranges ranges;
  ranges.piece_bytes = piece_bytes;
  for (const ByteRange& range : merged) {
    const auto pieces = (range.bytes + piece_bytes - 1) / piece_bytes;
    ranges.data[ranges.count] = static_cast<const char*>(range.data);
    ranges.first_piece[ranges.count] = static_cast<std::uint32_t>(ranges.pieces);
    ranges.tail_bytes[ranges.count] = static_cast<std::uint32_t>(range.bytes - (pieces - 1) * piece_bytes);
    ranges.pieces += pieces;
    ++ranges.count;
  }
  return ranges;
}

template <int kBytes, int kSlots>
Result<Sample> time_ring(Timer& timer, const std::vector<ByteRange>& ranges, int sms, const TimingOptions& options) {
  const auto cuts = cut(ranges, kBytes);
  if (!cuts.ok()) return cuts.status();
  constexpr int kShared = sizeof(RingShared<kBytes, kSlots>) + 128;
  BLOCKMOE_CUDA_TRY(
      cudaFuncSetAttribute(read_ring<kBytes, kSlots>, cudaFuncAttributeMaxDynamicSharedMemorySize, kShared));
  return timer.graph(
      [&](void* stream) {
        read_ring<kBytes, kSlots><<<sms, 32, kShared, static_cast<cudaStream_t>(stream)>>>(cuts.value());
        return cuda_status(cudaGetLastError(), "read_ring");
      },
      options);
}

Result<Sample> time_plain(Timer& timer, const std::vector<ByteRange>& ranges, int sms, const TimingOptions& options) {
  const auto cuts = cut(ranges, kPlainPiece);
  auto sink = allocate(sizeof(std::uint32_t), "sink");
  if (!cuts.ok()) return cuts.status();
  if (!sink.ok()) return sink.status();
  return timer.graph(
      [&](void* stream) {
        read_plain<<<sms * 4, 512, 0, static_cast<cudaStream_t>(stream)>>>(
            cuts.value(), static_cast<std::uint32_t*>(sink.value().get()));
        return cuda_status(cudaGetLastError(), "read_plain");
      },
      options);
}

}  // namespace

Result<Sample> measure_read(Timer& timer, const std::vector<ByteRange>& ranges, const TimingOptions& options) {
  if (ranges.empty()) {
    return timer.graph(
        [](void* stream) {
          read_nothing<<<1, 32, 0, static_cast<cudaStream_t>(stream)>>>();
          return cuda_status(cudaGetLastError(), "read_nothing");
        },
        options);
  }
  int device = 0;
  int sms = 0;
  int major = 0;
  BLOCKMOE_CUDA_TRY(cudaGetDevice(&device));
  BLOCKMOE_CUDA_TRY(cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, device));
  BLOCKMOE_CUDA_TRY(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
  auto best = time_plain(timer, ranges, sms, options);
  if (!best.ok() || major < 9) return best;
  for (const auto& ring :
       {time_ring<16384, 12>(timer, ranges, sms, options), time_ring<32768, 6>(timer, ranges, sms, options)}) {
    if (!ring.ok()) return ring.status();
    if (ring.value().median_us < best.value().median_us) best = ring;
  }
  return best;
}

}  // namespace blockmoe::measure
