// cpu_reference.hpp: the layer by brute force, one value at a time: routing as the contract words it, products in FP64.
#pragma once

#include <cstdint>
#include <vector>

#include "random_call.hpp"

namespace blockmoe::test {

struct ReferencePick {
  std::int32_t expert;  // global number
  float weight;
};

/// The picks of one token over all ranks, in pick order, by sorting everything.
std::vector<ReferencePick> reference_picks(const RandomCall& call, std::int64_t token);

/// silu(gate) * up of one token for one local expert, [I].
std::vector<double> reference_intermediate(const RandomCall& call, std::int64_t token, std::int32_t local_expert);

/// Each 128 values as e4m3 codes times their scale.
std::vector<double> reference_requantised(const std::vector<double>& values);

/// The second product of a row of values [I], [H].
std::vector<double> reference_expert_output(const RandomCall& call, const std::vector<double>& inter,
                                            std::int32_t local_expert);

/// The output row of a token, [H], not rounded.
std::vector<double> reference_output(const RandomCall& call, std::int64_t token);

/// Of a difference: sqrt(sum (a - reference)^2 / sum reference^2); 0 where both are zeros.
double relative_l2(const std::vector<double>& a, const std::vector<double>& reference);

}  // namespace blockmoe::test
