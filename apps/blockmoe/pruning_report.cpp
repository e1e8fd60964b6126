#include "pruning_report.hpp"

#include <fmt/format.h>

namespace blockmoe::cli {

contract::Pruning contract_of(const Pruning& pruning) {
  return {pruning.max_local_picks, pruning.min_weight_share};
}

std::string mark_of(const Pruning& pruning) {
  if (!contract_of(pruning).is_on()) return {};
  const std::int32_t most = pruning.max_local_picks;
  std::string mark = fmt::format("{}: ", kPruned);
  mark += most == 0 ? "local picks" : fmt::format("at most {} local {} a token", most, most == 1 ? "pick" : "picks");
  if (pruning.min_weight_share == 0.0F) return mark;
  return mark +
         fmt::format("{} with at least {} of its token's weights", most == 0 ? "" : ", each", pruning.min_weight_share);
}

nlohmann::ordered_json to_json(const Pruning& pruning) {
  if (!contract_of(pruning).is_on()) return nullptr;
  return {{"mark", kPruned},
          {"max_local_picks", pruning.max_local_picks},
          {"min_weight_share", std::stod(fmt::format("{}", pruning.min_weight_share))}};  // 0.1 as it was given
}

nlohmann::ordered_json to_json(const PruningCost& cost) {
  return {{"mark", kPruned},
          {"exact_picks", cost.picks},
          {"picks_dropped", cost.dropped},
          {"matched_ratio_to_exact", cost.matched_ratio},
          {"rel_l2_to_exact", cost.rel_l2}};
}

}  // namespace blockmoe::cli
