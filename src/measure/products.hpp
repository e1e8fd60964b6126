// products.hpp: the rates of dense FP8 products by cuBLASLt, the ceiling of everything bound by the matrix unit.
#pragma once

#include "blockmoe/status.hpp"
#include "measure/timing.hpp"

namespace blockmoe::measure {

struct ProductRates {
  double fp8_tflops = 0;        ///< 8192^3, e4m3 x e4m3 -> bf16, one scale a tensor
  double blockwise_tflops = 0;  ///< the same with scales of 1x128 (activations) and 128x128 (weights)
};

/// About 3 ms of products after 40 ms of rest. The operator itself runs so: for a millisecond or two, on a card that is
/// not at its limit of power yet.
inline constexpr BurstOptions kProductBursts{11, 4, 40};

/// Operands as the official profile draws them, fp32 accumulation; the median burst of the fastest of the algorithms
/// that cuBLASLt proposes. `unsupported` where the library is not found or offers no such product on this device.
Result<ProductRates> measure_products(Timer& timer);

}  // namespace blockmoe::measure
