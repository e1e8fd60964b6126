#include "ceilings.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

namespace blockmoe::cli {
namespace {

// Below these something else was on the card, or it was slowed down.
struct LeastRates {
  std::string_view gpu;  // the driver's name, whole: an H100 PCIe or NVL is another card
  double read_gbps;
  double fp8_tflops;
  double blockwise_tflops;
};

constexpr std::array kCards{
    // Measured: 1409 MB in 303 to 306 us; products 1451 in bursts and 1375 sustained, blockwise 1202 and 1158. A run below
    // what the card sustains was disturbed.
    LeastRates{"NVIDIA H200", 4500, 1350, 1130},
    // Measured: 3050 GB/s, 1455 to 1507, 1228. The same shares of these as the H200's limits are of its figures.
    LeastRates{"NVIDIA H100 80GB HBM3", 2965, 1354, 1154},
};

}  // namespace

void judge_ceilings(BenchReport& report) {
  const auto* const card = std::find_if(kCards.begin(), kCards.end(),
                                        [&](const LeastRates& rates) { return rates.gpu == report.machine.gpu; });
  if (card == kCards.end()) {
    report.notes.push_back(
        fmt::format("the ceilings were not judged: nothing is known of {} in order", report.machine.gpu));
    return;
  }
  const auto check = [&](const char* what, double found, double least, const char* unit) {
    if (found == 0 || found >= least) return;
    report.is_void = true;
    report.notes.push_back(
        fmt::format("void: {} at {:.0f} {}, a {} in order has {:.0f} or more", what, found, unit, card->gpu, least));
  };
  check("the read", report.read_gbps, card->read_gbps, "GB/s");
  check("the dense FP8 product", report.fp8_tflops, card->fp8_tflops, "TFLOPS");
  check("the blockwise product", report.blockwise_tflops, card->blockwise_tflops, "TFLOPS");
}

}  // namespace blockmoe::cli
