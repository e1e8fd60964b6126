#pragma once

#include "cpu/call.hpp"

namespace blockmoe::cpu {

/// Fills pick_count and picks (expert and weight) of the block's tokens.
void route(const Call& call, const TokenBlock& block);

/// The picks of all tokens over all ranks' experts.
void route_alone(const contract::Geometry& geometry, const contract::Weights& weights,
                 const contract::Activations& activations, const contract::RoutedPicks& picks, ThreadPool& pool);

}  // namespace blockmoe::cpu
