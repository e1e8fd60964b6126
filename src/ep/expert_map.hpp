// expert_map.hpp: which rank has which expert, from what every rank says of its own.
#pragma once

#include <cstdint>
#include <vector>

#include "blockmoe/status.hpp"
#include "expert_parallel/record.h"

namespace blockmoe::ep {

/// kernels::expert_parallel::OwnerTable on the host.
struct OwnerLists {
  std::vector<std::int32_t> begin;  // [E + 1]
  std::vector<kernels::expert_parallel::Owner> owners;

  kernels::expert_parallel::OwnerTable table() const { return {begin.data(), owners.data()}; }
};

/// rank * L + l for l in [0, L).
std::vector<std::int32_t> consecutive_experts(std::int32_t rank, std::int32_t local_experts);

/// `experts_of_rank[r][l]`: global number of rank r's local expert l. invalid_argument, in the name of expert_map: a number outside
/// [0, E), an expert twice on a rank, one that no rank has.
Result<OwnerLists> owner_lists(const std::vector<std::vector<std::int32_t>>& experts_of_rank, std::int32_t experts);

}  // namespace blockmoe::ep
