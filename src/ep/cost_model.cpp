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
// Of the products' rate that is gone while a message travels beside them: NCCL's kernels hold a quarter of the multiprocessors.
constexpr double kNcclShare = 0.25;
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
  // Pieces come in beside the first half of the own tokens and the pieces before them, and go back beside those after them and the
  // second half.
  const double half = products_us(g, slots / 2);
  const double piece = products_us(g, peers * slots / pieces);
  cost.products_us = 2 * half + pieces * piece;
  const double beside = half + (pieces - 1) * piece;
  const auto beyond = [beside](double message) {
    return kNcclShare * std::min(message, beside) + std::max(0.0, message - beside);
  };
  cost.total_us = cost.route_us + cost.products_us + beyond(cost.exchange_us) + beyond(cost.return_us - sum) + sum;
  return cost;
}

std::int32_t choose_pieces(std::int32_t ranks, std::int64_t slots) {
  constexpr std::int64_t kTokensACall = 4096;
  const std::int64_t calls = (ranks - std::int64_t{1}) * slots / kTokensACall;
  return calls >= kMostChosenPieces ? kMostChosenPieces : calls >= 2 ? 2 : 1;
}

EpWay choose_way(const EpSizes& sizes) {
  if (sizes.ranks == 1) return EpWay::gather;
  const Link link = link_of(sizes.ranks);
  const bool gather = predict(EpWay::gather, sizes, link).total_us <= predict(EpWay::exchange, sizes, link).total_us;
  return gather ? EpWay::gather : EpWay::exchange;
}

}  // namespace blockmoe::ep
