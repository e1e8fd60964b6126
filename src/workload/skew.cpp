#include "workload/skew.hpp"

#include <vector>

#include "contract/host_device.h"
#include "workload/generator.hpp"

namespace blockmoe::workload {
namespace {

// How one expert's logit follows from the number that was drawn for it.
struct Change {
  float factor = 1.0F;
  float shift = 0.0F;
};

// Sigmoids: of the hot expert about 1, of the cold ones about 0, of the others 0.27 +- 0.05. So a group's score (the sum of its
// two largest) is about 1 with the hot expert in it and below 0.8 without, and a group of cold experts is never kept
// while there are others.
constexpr Change kHot = {0.0F, 10.0F};
constexpr Change kCold = {0.0F, -10.0F};
constexpr Change kOther = {0.25F, -1.0F};

std::vector<Change> popularity(std::int32_t experts, double exponent, std::uint64_t seed) {
  const std::vector<std::int32_t> order = expert_order(experts, seed);
  std::vector<Change> changes(order.size());
  for (std::size_t rank = 0; rank < order.size(); ++rank) {
    changes[static_cast<std::size_t>(order[rank])].shift =
        static_cast<float>(-exponent * log_of(static_cast<double>(rank + 1)));
  }
  return changes;
}

// The local experts are cold but for the first of them where `hot`.
std::vector<Change> local_changes(const contract::Geometry& geometry, std::int64_t offset, bool hot) {
  std::vector<Change> changes(static_cast<std::size_t>(geometry.experts), kOther);
  for (std::int64_t local = 0; local < geometry.local_experts; ++local) {
    const std::int64_t expert = offset + local;
    if (expert < 0 || expert >= geometry.experts) continue;
    changes[static_cast<std::size_t>(expert)] = hot ? kHot : kCold;
    hot = false;
  }
  return changes;
}

// `others` for all experts but the first local one.
std::vector<Change> changes_of_first_local(const contract::Geometry& geometry, std::int64_t offset, Change change,
                                           Change others) {
  std::vector<Change> changes(static_cast<std::size_t>(geometry.experts), others);
  if (offset >= 0 && offset < geometry.experts) changes[static_cast<std::size_t>(offset)] = change;
  return changes;
}

std::vector<Change> changes_of(const contract::Geometry& geometry, std::int32_t offset, const Skew& skew,
                               std::uint64_t seed) {
  if (skew.kind == Skew::Kind::zipf) return popularity(geometry.experts, skew.exponent, seed);
  if (skew.kind == Skew::Kind::one_row) return changes_of_first_local(geometry, offset, kCold, {});
  return local_changes(geometry, offset, skew.kind == Skew::Kind::all_on_one);
}

}  // namespace

void skew_logits(float* logits, std::int64_t tokens, const contract::Geometry& geometry,
                 std::int32_t local_expert_offset, const Skew& skew, std::uint64_t seed) {
  if (skew.kind == Skew::Kind::even) return;
  const std::vector<Change> changes = changes_of(geometry, local_expert_offset, skew, seed);
  const std::vector<Change> changes_of_first_token =
      skew.kind == Skew::Kind::one_row ? changes_of_first_local(geometry, local_expert_offset, kHot, kOther) : changes;
  for (std::int64_t t = 0; t < tokens; ++t) {
    for (const Change& change : t == 0 ? changes_of_first_token : changes) {
      *logits = contract::rn::add(contract::rn::mul(*logits, change.factor), change.shift);
      ++logits;
    }
  }
}

}  // namespace blockmoe::workload
