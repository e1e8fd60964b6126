#include "product.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "cpu/products/products.hpp"
#include "machine.hpp"

namespace blockmoe::bench {
namespace {

constexpr std::int64_t kPitch = 7168;
constexpr int kMostRows = 256;

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};
using Memory = std::unique_ptr<void, Free>;

Memory allocate(std::size_t bytes) {
  return Memory(std::aligned_alloc(256, (bytes + 255) / 256 * 256));
}

template <typename Work>
double shortest(const Work& work) {
  constexpr int kRuns = 500;
  constexpr int kCalls = 4;
  double best = 1;
  for (int run = 0; run < kRuns; ++run) {
    const double begin = seconds_now();
    for (int call = 0; call < kCalls; ++call) work();
    best = std::min(best, (seconds_now() - begin) / kCalls);
  }
  return best;
}

}  // namespace

ProductTimes time_product(cpu::InstructionSet set) {
  const cpu::Products& p = cpu::products_of(set);
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(kPitch * cpu::kPanelRows));
  for (std::size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<std::uint8_t>(i * 37 % 0x7f);
  std::vector<const std::uint8_t*> pointers;
  pointers.reserve(kMostRows);
  for (int r = 0; r < kMostRows; ++r) pointers.push_back(codes.data() + r % cpu::kPanelRows * kPitch);
  const std::vector<float> scales(kMostRows, 1.0f);
  std::vector<float> acc(static_cast<std::size_t>(kMostRows * cpu::kPanelRows), 0.0f);
  const Memory panel = allocate(p.panel_bytes);
  const Memory activations = allocate(p.activation_bytes * kMostRows);

  ProductTimes times;
  p.enter();
  times.decode_panel = shortest([&] { p.decode_panel(codes.data(), kPitch, panel.get()); });
  for (const int rows : {1, 2, 8, 32, 64, 256}) {
    const double decode = shortest([&] { p.decode_activations(pointers.data(), 0, rows, activations.get()); });
    const double multiply = shortest(
        [&] { p.multiply_add(activations.get(), panel.get(), scales.data(), rows, acc.data(), cpu::kPanelRows); });
    times.rows.push_back({rows, decode, multiply});
  }
  p.leave();
  return times;
}

}  // namespace blockmoe::bench
