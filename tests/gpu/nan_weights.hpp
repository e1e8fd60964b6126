// nan_weights.hpp: calls in which one expert's weights hold NaN, for tests that it reaches nobody else.
#pragma once

#include <functional>
#include <vector>

#include "layer.hpp"

namespace blockmoe::test {

/// Calls `check` twice: with `clean` but for NaN strewn over one local expert's gemm1 weights, then over its gemm2 weights.
/// `untouched` says of each token that it didn't pick that expert.
void for_each_nan_in_an_experts_weights(
    const Layer& clean, const std::function<void(const Layer& layer, const std::vector<bool>& untouched)>& check);

}  // namespace blockmoe::test
