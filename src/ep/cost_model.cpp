// cost_model.cpp: see cost_model.hpp.
#include "ep/cost_model.hpp"

#include <algorithm>
#include <cmath>

#include "expert_parallel/record.h"

namespace blockmoe::ep {
namespace {

// The operator on an NVIDIA H200 with 128 experts (`blockmoe bench --ep`, replays back to back, 2026-11-27): weights of active
// experts at 4.3 TB/s, products at 660 TFLOPS (sustained; a call alone on a rested card has 880), whichever takes longer, beside 20
// us of everything else; f32 rows and parts at 4 TB/s.
constexpr double kReadBytes = 4.3e12;
constexpr double kFlops = 660e12;
constexpr double kCallUs = 20.0;
constexpr double kMoveBytes = 4.0e12;
constexpr double kLaunchUs = 2.5;  // a kernel of a few microseconds in a graph

double us(double seconds) {
  return seconds * 1e6;
}

double products_us(const contract::Geometry& g, double tokens) {
  if (tokens <= 0) return 0;
  const double pick = static_cast<double>(g.top_k) / g.experts;
  const double active = g.local_experts * (1.0 - std::pow(1.0 - pick, tokens));
  const double rows = tokens * pick * g.local_experts;
  const double expert_bytes = 3.0 * static_cast<double>(g.hidden * g.intermediate);
  const double bytes = active * expert_bytes / kReadBytes;
  const double flops = rows * 2.0 * expert_bytes / kFlops;
  const double output = tokens * static_cast<double>(g.hidden) * 4.0 / kMoveBytes;
  return kCallUs + us(std::max(bytes, flops)) + us(output);
}

}  // namespace

Link link_of(std::int32_t ranks) {
  return ranks <= kRanksOfAHost ? kNvlink : kNetwork;
}

EpCost predict(EpWay way, const EpSizes& sizes, const Link& link) {
  const contract::Geometry& g = sizes.layer;
  const auto slots = static_cast<double>(sizes.slots);
  const auto record = static_cast<double>(kernels::expert_parallel::record_layout(g).bytes);
  const double part = static_cast<double>(g.hidden) * 4.0;
  const double peers = sizes.ranks - 1.0;
  const double out = us(peers * slots * record / link.bytes_a_second);
  const double back = us(peers * slots * part / link.bytes_a_second);
  const double sum = kLaunchUs + us(sizes.ranks * slots * part / kMoveBytes);
  const double pieces = way == EpWay::exchange ? sizes.pieces : 1;
  EpCost cost;
  cost.route_us = 3 * kLaunchUs + us(2.0 * sizes.ranks * slots * record / kMoveBytes);
  cost.exchange_us = pieces * link.latency_us + out;
  cost.return_us = pieces * link.latency_us + back + sum;
  if (way != EpWay::exchange) {
    cost.products_us = products_us(g, sizes.ranks * slots);
    cost.total_us = cost.route_us + cost.exchange_us + cost.products_us + cost.return_us;
    return cost;
  }
  // The first piece comes in the open; the last one goes back beside the own tokens' products, the others beside more.
  const double own = products_us(g, slots);
  const double piece = products_us(g, peers * slots / pieces);
  cost.products_us = own + pieces * piece;
  const double first_in = cost.exchange_us / pieces;
  const double waits_in = std::max(0.0, (cost.exchange_us - first_in) - (pieces - 1) * piece);
  const double returns = cost.return_us - sum;
  const double waits_back = std::max(0.0, returns - own - (pieces - 1) * piece);
  cost.total_us = cost.route_us + first_in + waits_in + cost.products_us + waits_back + sum;
  return cost;
}

EpWay choose_way(const EpSizes& sizes) {
  if (sizes.ranks == 1) return EpWay::gather;
  const Link link = link_of(sizes.ranks);
  const bool gather = predict(EpWay::gather, sizes, link).total_us <= predict(EpWay::exchange, sizes, link).total_us;
  return gather ? EpWay::gather : EpWay::exchange;
}

}  // namespace blockmoe::ep
