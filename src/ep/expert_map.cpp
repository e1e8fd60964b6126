// expert_map.cpp: see expert_map.hpp.
#include "ep/expert_map.hpp"

#include <algorithm>
#include <cstddef>
#include <numeric>

#include "api/refusal.hpp"

namespace blockmoe::ep {

using api::join;

std::vector<std::int32_t> consecutive_experts(std::int32_t rank, std::int32_t local_experts) {
  std::vector<std::int32_t> experts(static_cast<std::size_t>(local_experts));
  std::iota(experts.begin(), experts.end(), rank * local_experts);
  return experts;
}

Result<OwnerLists> owner_lists(const std::vector<std::vector<std::int32_t>>& experts_of_rank, std::int32_t experts) {
  std::vector<std::vector<kernels::expert_parallel::Owner>> of_expert(static_cast<std::size_t>(experts));
  for (std::size_t r = 0; r < experts_of_rank.size(); ++r) {
    for (std::size_t l = 0; l < experts_of_rank[r].size(); ++l) {
      const std::int32_t expert = experts_of_rank[r][l];
      if (expert < 0 || expert >= experts) {
        return api::refuse("expert_map", join("expert ", expert, " at ", l, " of rank ", r),
                           join("0 to ", experts - 1));
      }
      auto& owners = of_expert[static_cast<std::size_t>(expert)];
      const auto rank = static_cast<std::int32_t>(r);
      if (!owners.empty() && owners.back().rank == rank) {
        return api::refuse("expert_map", join("expert ", expert, " twice on rank ", r), "once at most");
      }
      owners.push_back({rank, static_cast<std::int32_t>(l)});
    }
  }
  OwnerLists lists;
  lists.begin.push_back(0);
  for (std::int32_t e = 0; e < experts; ++e) {
    const auto& owners = of_expert[static_cast<std::size_t>(e)];
    if (owners.empty()) return api::refuse("expert_map", join("expert ", e, " on no rank"), "every expert on a rank");
    lists.owners.insert(lists.owners.end(), owners.begin(), owners.end());
    lists.begin.push_back(static_cast<std::int32_t>(lists.owners.size()));
  }
  return lists;
}

}  // namespace blockmoe::ep
