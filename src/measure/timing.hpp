// timing.hpp: how every GPU figure of this project is taken.
//
// One call is captured as a CUDA graph; before each replay the L2 is flushed clean: 256 MiB are written, then another
// 256 MiB are read, so that no dirty lines go back to memory while the call runs. Events stand around the replay alone.
// `eager` times the same call without a graph, the host's launches included in the stream's time.
#pragma once

#include <functional>
#include <vector>

#include "blockmoe/status.hpp"

namespace blockmoe::measure {

/// Microseconds over `runs` timed runs; p10 and p90 are the 10th and 90th percentile.
struct Sample {
  double median_us = 0;
  double p10_us = 0;
  double p90_us = 0;
  double min_us = 0;
  double max_us = 0;
  int runs = 0;
};

/// Of unsorted times; the nearest-rank percentile. Empty input gives zeros.
Sample summarise(std::vector<double> times_us);

struct TimingOptions {
  int warmup = 3;
  int runs = 30;
};

/// A burst: `launches` of the same work back to back on a card that was idle for `idle_ms`.
struct BurstOptions {
  int bursts = 11;
  int launches = 4;
  int idle_ms = 40;
};

/// Work put on a stream (a cudaStream_t). It may be called several times.
using Enqueue = std::function<Status(void* stream)>;

/// Owns a stream, the buffers of the flush and the events.
class Timer {
 public:
  static Result<Timer> create();
  Timer(Timer&& other) noexcept;
  Timer& operator=(Timer&& other) noexcept;
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;
  ~Timer();

  /// Captures `work` once, replays it.
  Result<Sample> graph(const Enqueue& work, const TimingOptions& options);
  /// Calls `work` again for each run.
  Result<Sample> eager(const Enqueue& work, const TimingOptions& options);
  /// One launch's share of a burst, over several bursts; no flush. For work that is bound by power: launches that follow
  /// each other for long are slowed by the card's limit, a few after a rest are not.
  Result<Sample> bursts(const Enqueue& work, const BurstOptions& options);
  /// Runs `work` once and waits.
  Status once(const Enqueue& work);

  void* stream() const;

 private:
  struct State;
  explicit Timer(State* state);
  State* state_ = nullptr;
};

}  // namespace blockmoe::measure
