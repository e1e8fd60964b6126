// expert_oracle_cuda.hpp: the FP64 oracle's expert products on a GPU, so that every token of every shape can be checked.
//
// The same definition as expert_oracle.hpp, FP64 throughout, with kernels of its own that share nothing with the operator's.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "blockmoe/status.hpp"
#include "contract/call.h"
#include "contract/geometry.h"

namespace blockmoe::verify {

/// One local pick: a row of an expert's products.
struct ExpertRow {
  std::int32_t local_expert;
  std::int64_t token;
};

struct ExpertRowProducts {
  std::vector<double> requantised;         // [rows, H] with the intermediate rounded to e4m3
  std::vector<double> plain;               // [rows, H] without
  std::vector<std::uint8_t> out_of_range;  // [rows] as Products::out_of_range, over both stages
};

/// `rows` ascend by local_expert. `weights` and `activations` hold pointers to the current CUDA device.
Result<ExpertRowProducts> expert_rows_cuda(const contract::Geometry& geometry, const contract::Weights& weights,
                                           const contract::Activations& activations, std::span<const ExpertRow> rows);

}  // namespace blockmoe::verify
