// reader.hpp: how fast this card reads given bytes when it does nothing else: the floor of everything bound by weights.
#pragma once

#include <cstdint>
#include <vector>

#include "blockmoe/status.hpp"
#include "measure/timing.hpp"

namespace blockmoe::measure {

/// Device memory to be read once; 16-byte aligned, a multiple of 16 bytes.
struct ByteRange {
  const void* data = nullptr;
  std::int64_t bytes = 0;
};

/// The time of one launch that reads all ranges, by the fastest of our readers on this device for these ranges: plain 16-byte loads, and on
/// sm_90 and later rings of bulk copies of 16 KiB and of 32 KiB an SM. Flushed like any other call; an empty list times
/// an empty launch.
Result<Sample> measure_read(Timer& timer, const std::vector<ByteRange>& ranges, const TimingOptions& options);

}  // namespace blockmoe::measure
