// routing_reference.hpp: routing by brute force, with the contract's functions as a host compiles them: the bits that every
// backend must give.
#pragma once

#include <cstdint>
#include <vector>

#include "contract/call.h"
#include "contract/geometry.h"
#include "contract/pruning.h"

namespace blockmoe::test {

struct LocalPick {
  std::int32_t expert;  // local
  std::uint32_t weight_bits;

  friend bool operator==(const LocalPick&, const LocalPick&) = default;
};

/// The local picks that `rule` leaves, as bits: by sorting them.
std::uint32_t kept_by_sorting(const contract::Pruning& rule, const contract::TokenPicks& picks);

/// A token's local picks in pick order, less those that `pruning` drops.
std::vector<LocalPick> reference_picks(const contract::Geometry& geometry, const contract::Weights& weights,
                                       const contract::Activations& activations, std::int64_t token,
                                       const contract::Pruning& pruning = {});

/// All tokens, by all of the machine's threads.
std::vector<std::vector<LocalPick>> reference_routing(const contract::Geometry& geometry,
                                                      const contract::Weights& weights,
                                                      const contract::Activations& activations,
                                                      const contract::Pruning& pruning = {});

}  // namespace blockmoe::test
