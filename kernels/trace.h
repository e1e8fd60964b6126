// trace.h: NVTX ranges around the launches of a stage, where the toolkit has NVTX's headers. They cost a few
// nanoseconds when no profiler listens.
#pragma once

#if defined(__has_include)
#if __has_include(<nvtx3/nvToolsExt.h>)
#include <nvtx3/nvToolsExt.h>
#define BLOCKMOE_HAS_NVTX 1
#endif
#endif

namespace blockmoe::kernels {

class TraceRange {
 public:
#if defined(BLOCKMOE_HAS_NVTX)
  explicit TraceRange(const char* name) { nvtxRangePushA(name); }
  ~TraceRange() { nvtxRangePop(); }
#else
  explicit TraceRange(const char*) {}
  ~TraceRange() {}
#endif
  TraceRange(const TraceRange&) = delete;
  TraceRange& operator=(const TraceRange&) = delete;
};

}  // namespace blockmoe::kernels
