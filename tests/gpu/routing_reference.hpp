// routing_reference.hpp: routing by brute force, with the contract's functions as a host compiles them: the bits that every
// backend must give.
#pragma once

#include <cstdint>
#include <vector>

#include "contract/call.h"
#include "contract/geometry.h"

namespace blockmoe::test {

struct LocalPick {
  std::int32_t expert;  // local
  std::uint32_t weight_bits;

  friend bool operator==(const LocalPick&, const LocalPick&) = default;
};

/// A token's local picks in pick order.
std::vector<LocalPick> reference_picks(const contract::Geometry& geometry, const contract::Weights& weights,
                                       const contract::Activations& activations, std::int64_t token);

/// All tokens, by all of the machine's threads.
std::vector<std::vector<LocalPick>> reference_routing(const contract::Geometry& geometry,
                                                      const contract::Weights& weights,
                                                      const contract::Activations& activations);

}  // namespace blockmoe::test
