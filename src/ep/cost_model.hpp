// cost_model.hpp: what a call over several ranks costs, from sizes alone: what `automatic` decides by, and what
// docs/expert-parallel.md predicts for more ranks than were measured. All constants stand here, with their source.
#pragma once

#include <cstdint>

#include "blockmoe/expert_parallel.hpp"
#include "contract/geometry.h"

namespace blockmoe::ep {

/// What connects ranks, as each rank sees it.
struct Link {
  double latency_us;      // of one NCCL call in a graph with little to move
  double bytes_a_second;  // out of one rank, all its peers together
};

// NCCL 2.28.9 in a graph on two NVIDIA H200 of one host (NV18), `blockmoe bench --ep`, 2026-11-27, both ways at once: 7 KB a rank
// 9.5 us, 29 KB 10.5; 61 MB 283 to 294 us, 235 MB 880 to 914. (One way alone, by copies: 373 GB/s.)
inline constexpr Link kNvlink{11.0, 250e9};
// An assumption, not a measurement: one adapter of 400 Gbit/s a GPU at nine tenths, and twice the latency.
inline constexpr Link kNetwork{22.0, 45e9};
inline constexpr std::int32_t kRanksOfAHost = 8;

/// NVLink within a host; beyond it the network carries what goes to other hosts, and decides.
Link link_of(std::int32_t ranks);

struct EpCost {
  double route_us = 0;     // route, pack, unpack
  double exchange_us = 0;  // tokens out
  double products_us = 0;  // the operator's calls
  double return_us = 0;    // parts back, and their sum
  double total_us = 0;     // less than the sum where they overlap
};

struct EpSizes {
  contract::Geometry layer;  // local_experts: of a rank
  std::int32_t ranks = 1;
  std::int64_t slots = 0;  // tokens a rank
  std::int32_t pieces = 1;
};

/// With picks spread evenly over all experts.
EpCost predict(EpWay way, const EpSizes& sizes, const Link& link);

/// Pieces of an exchange where the caller names none: 1, 2 or 4, as many as keep 4096 tokens for each call of the operator, which
/// cuts longer ones itself.
inline constexpr std::int32_t kMostChosenPieces = 4;
std::int32_t choose_pieces(std::int32_t ranks, std::int64_t slots);

/// The cheaper one of gather and exchange; gather for one rank.
EpWay choose_way(const EpSizes& sizes);

}  // namespace blockmoe::ep
