#include "plan_cache.hpp"

#include <algorithm>
#include <bit>
#include <deque>
#include <mutex>
#include <tuple>

#include "tensor.hpp"

namespace blockmoe::python {
namespace {

constexpr std::size_t kMostPlans = 16;

// Few plans serve all T: powers of two, then steps that waste little workspace.
std::int64_t round_up(std::int64_t tokens) {
  constexpr std::int64_t kStep = 1024;
  if (tokens > kStep) return (tokens + kStep - 1) / kStep * kStep;
  return static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(std::max<std::int64_t>(tokens, 1))));
}

struct Entry {
  Geometry geometry;
  std::int64_t max_tokens;
  Device device;
  Options options;
  Plan plan;

  bool is_for(const Geometry& g, std::int64_t tokens, Device where, const Options& o) const {
    const auto values = [](const Geometry& x) {
      return std::tuple(x.experts, x.hidden, x.intermediate, x.local_experts, x.top_k, x.n_group, x.topk_group);
    };
    return max_tokens == tokens && device == where && values(geometry) == values(g) && options.backend == o.backend &&
           options.gate_first == o.gate_first && options.pruning.max_local_picks == o.pruning.max_local_picks &&
           options.pruning.min_weight_share == o.pruning.min_weight_share &&
           options.intermediate_type == o.intermediate_type;
  }
};

struct Cache {
  std::mutex mutex;
  std::deque<Entry> entries;  // the latest used first
};

// Never destroyed: at exit, threads of the program may still be in a call.
Cache*& cache() {
  static auto* the_cache = new Cache;
  return the_cache;
}

Plan make_plan(const Geometry& geometry, std::int64_t max_tokens, Device device, const Options& options) {
  const Result<DeviceInfo> info = query_device(device);
  require_ok(info.status());
  const Result<Plan> plan = Plan::create(geometry, max_tokens, info.value(), options);
  require_ok(plan.status());
  return plan.value();
}

}  // namespace

Plan plan_for(const Geometry& geometry, std::int64_t tokens, Device device, const Options& options) {
  const std::int64_t max_tokens = round_up(tokens);
  Cache& known = *cache();
  const std::scoped_lock lock(known.mutex);
  const auto found = std::ranges::find_if(
      known.entries, [&](const Entry& entry) { return entry.is_for(geometry, max_tokens, device, options); });
  if (found == known.entries.end()) {
    known.entries.push_front({geometry, max_tokens, device, options, make_plan(geometry, max_tokens, device, options)});
    if (known.entries.size() > kMostPlans) known.entries.pop_back();
  } else if (found != known.entries.begin()) {
    std::rotate(known.entries.begin(), found, found + 1);
  }
  return known.entries.front().plan;
}

void forget_plans() {
  cache() =
      new Cache;  // the old one stays as it is, lock and all: another thread may have held it when the process forked
}

}  // namespace blockmoe::python
