// routing.cpp: route and pack, as two kernels or as one.
#include "launch.h"
#include "stages/route_grouped.h"
#include "stages/stages.h"

namespace blockmoe::kernels::stages {

Error launch_routing(const Slab& slab, cudaStream_t stream) {
  const bool route = (slab.wanted & kRoute) != 0;
  const bool pack = (slab.wanted & kPack) != 0;
  if (is_grouped(slab) && fits_one_cta(slab)) return route ? launch_route_and_pack(slab, stream) : Error{};
  return first_error([&] { return route ? launch_route(slab, stream) : Error{}; },
                     [&] { return pack ? launch_pack(slab, stream) : Error{}; });
}

Error prepare_routing(const contract::Geometry& geometry, std::int32_t shared_memory) {
  return first_error(
      [&] { return prepare_route(geometry); },
      [&] { return is_grouped(geometry) ? prepare_route_grouped(geometry.local_experts, shared_memory) : Error{}; },
      [] { return prepare_pack(); });
}

}  // namespace blockmoe::kernels::stages
