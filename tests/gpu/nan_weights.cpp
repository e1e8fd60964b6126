#include "nan_weights.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "contract/e4m3.h"
#include "routing_reference.hpp"

namespace blockmoe::test {

void for_each_nan_in_an_experts_weights(
    const Layer& clean, const std::function<void(const Layer& layer, const std::vector<bool>& untouched)>& check) {
  constexpr std::int32_t kExpert = 3;
  constexpr std::size_t kStride = 97;
  const HostCall host(clean);
  std::vector<bool> untouched;
  for (const auto& picks : reference_routing(clean.geometry(), host.weights, host.activations)) {
    untouched.push_back(
        std::none_of(picks.begin(), picks.end(), [](const LocalPick& pick) { return pick.expert == kExpert; }));
  }
  for (const bool second : {false, true}) {
    Layer layer = clean;
    std::vector<std::uint8_t>& weights = second ? layer.w2 : layer.w13;
    const std::size_t expert_size = weights.size() / static_cast<std::size_t>(clean.geometry().local_experts);
    for (std::size_t i = 0; i < expert_size; i += kStride) weights[kExpert * expert_size + i] = contract::kE4m3NaN;
    check(layer, untouched);
  }
}

}  // namespace blockmoe::test
