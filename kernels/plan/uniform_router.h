// uniform_router.h: what the host can say of a call's rows before it is routed. Host C++17.
#pragma once

#include <cstdint>

#include "contract/geometry.h"

namespace blockmoe::kernels::plan {

// Rows that a router which spreads its picks evenly gives each expert.
inline double rows_an_expert(const contract::Geometry& geometry, std::int64_t tokens) {
  return static_cast<double>(tokens) * geometry.top_k / geometry.experts;
}

}  // namespace blockmoe::kernels::plan
