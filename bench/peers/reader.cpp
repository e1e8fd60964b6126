// reader.cpp: the plain readers of `blockmoe bench` for callers that own the memory: libblockmoe_reader.so, loaded by floor.py.
//
// Timed on a stream of its own by the same Timer, so that the floor that stands beside a peer's time is the one of `bench`.
#include <cstdint>
#include <cstdio>
#include <optional>
#include <vector>

#include "measure/reader.hpp"
#include "measure/timing.hpp"

namespace {

using blockmoe::Status;
using blockmoe::measure::ByteRange;
using blockmoe::measure::Sample;
using blockmoe::measure::Timer;

int failed(const Status& status, char* message, std::int32_t capacity) {
  std::snprintf(message, static_cast<std::size_t>(capacity), "%s", status.message().c_str());
  return 1;
}

}  // namespace

/// Microseconds (median, p10, p90) of one launch that reads `count` ranges of the current device's memory.
/// Returns 0, or 1 with a text in `message`.
extern "C" __attribute__((visibility("default"))) int blockmoe_read_us(const void* const* data,
                                                                       const std::int64_t* bytes, std::int32_t count,
                                                                       std::int32_t warmup, std::int32_t runs,
                                                                       double* median_p10_p90, char* message,
                                                                       std::int32_t capacity) {
  static std::optional<Timer> timer;  // of the first caller's device
  if (!timer) {
    auto made = Timer::create();
    if (!made.ok()) return failed(made.status(), message, capacity);
    timer.emplace(std::move(made).value());
  }
  std::vector<ByteRange> ranges;
  ranges.reserve(static_cast<std::size_t>(count));
  for (std::int32_t i = 0; i < count; ++i) ranges.push_back({data[i], bytes[i]});
  const auto sample = blockmoe::measure::measure_read(*timer, ranges, {warmup, runs});
  if (!sample.ok()) return failed(sample.status(), message, capacity);
  const Sample& s = sample.value();
  median_p10_p90[0] = s.median_us;
  median_p10_p90[1] = s.p10_us;
  median_p10_p90[2] = s.p90_us;
  return 0;
}
