// setup.hpp: what ranks tell each other when a group is made, and what of it must agree.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "api/backend.hpp"
#include "blockmoe/expert_parallel.hpp"

namespace blockmoe::ep {

/// A field that must be the same on every rank.
struct Agreed {
  const char* name;
  std::int64_t value;
};

inline constexpr std::size_t kAgreed = 21;

/// One rank's description, as it travels.
struct Description {
  std::array<std::int64_t, kAgreed> agreed{};
  std::int64_t local_experts = 0;
  std::array<std::int32_t, contract::kMaxExperts> experts{};  // global numbers of its local ones
};

/// The names of Description::agreed, with this rank's values.
std::array<Agreed, kAgreed> agreed_fields(const api::PlanRequest& layer, const EpOptions& options);

/// invalid_argument where two descriptions differ in what must agree: the field, both values and both ranks.
Status check_agreement(const std::vector<Description>& of_rank, const std::array<Agreed, kAgreed>& names);

/// The ranks that a board shows below `calls`, "rank 1 has begun 3 calls"; empty for no board or nobody.
std::string who_is_behind(const EpBoard& board, std::int32_t ranks, std::int64_t calls);

/// "rank 1 has ...", or what is to be said where there is no board or nobody is behind on it.
std::string blame(const EpBoard& board, std::int32_t ranks, std::int64_t calls);

}  // namespace blockmoe::ep
