#include "machine.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

#include "peak.hpp"

namespace blockmoe::bench {
namespace {

template <typename Work>
double seconds_of(int threads, const Work& work) {
  const double begin = seconds_now();
  std::vector<std::thread> others;
  for (int i = 1; i < threads; ++i) others.emplace_back(work);
  work();
  for (std::thread& other : others) other.join();
  return seconds_now() - begin;
}

using Peak = double (*)(std::int64_t);

Peak peak_of(cpu::InstructionSet set) {
#if defined(__x86_64__)
  switch (set) {
    case cpu::InstructionSet::amx:
      return peak_amx;
    case cpu::InstructionSet::avx512_bf16:
      return peak_avx512_bf16;
    case cpu::InstructionSet::avx2:
      return peak_avx2;
    case cpu::InstructionSet::plain:
      break;
  }
#else
  static_cast<void>(set);
#endif
  return nullptr;
}

}  // namespace

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double peak_flops(cpu::InstructionSet set, int threads) {
  constexpr std::int64_t kRounds = 20'000'000;
  const Peak peak = peak_of(set);
  if (peak == nullptr) return 0;
  const double one = peak(1);
  return one * kRounds * threads / seconds_of(threads, [&] { peak(kRounds); });
}

double read_rate(const void* data, std::size_t bytes, int threads) {
  constexpr std::size_t kPiece = 1 << 20;
  const auto* words = static_cast<const std::uint64_t*>(data);
  std::atomic<std::size_t> next{0};
  std::atomic<std::uint64_t> total{0};
  const double seconds = seconds_of(threads, [&] {
    std::uint64_t sum = 0;
    for (std::size_t begin = next.fetch_add(kPiece); begin < bytes; begin = next.fetch_add(kPiece)) {
      const std::size_t end = std::min(bytes, begin + kPiece) / sizeof(std::uint64_t);
      for (std::size_t i = begin / sizeof(std::uint64_t); i < end; ++i) sum += words[i];
    }
    total.fetch_add(sum);
  });
  return static_cast<double>(bytes) / seconds;
}

}  // namespace blockmoe::bench
