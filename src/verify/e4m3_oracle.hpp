// e4m3_oracle.hpp: e4m3 from its definition, in FP64.
#pragma once

#include <array>
#include <cstdint>

namespace blockmoe::verify {

/// Values of the 256 codes; the two codes of magnitude 0x7f are NaN.
const std::array<double, 256>& e4m3_values();

/// The e4m3 value nearest to x, ties to the even mantissa, at most 448 in magnitude. NaN stays NaN.
double round_to_e4m3(double x);

}  // namespace blockmoe::verify
