// routing.cpp: route and pack, as two kernels or as one; or the caller's picks and pack.
#include "launch.h"
#include "stages/route_grouped.h"
#include "stages/stages.h"

namespace blockmoe::kernels::stages {

Error launch_routing(const Slab& slab, cudaStream_t stream) {
  const bool route = (slab.wanted & kRoute) != 0;
  const bool pack = (slab.wanted & kPack) != 0;
  const bool given = slab.given_picks.has_value();
  if (!given && is_grouped(slab) && fits_one_cta(slab)) return route ? launch_route_and_pack(slab, stream) : Error{};
  const auto launch_picks = given ? launch_take_picks : launch_route;
  return first_error([&] { return route ? launch_picks(slab, stream) : Error{}; },
                     [&] { return pack ? launch_pack(slab, stream) : Error{}; });
}

Error prepare_routing() {
  return first_error([] { return prepare_route(); }, [] { return prepare_route_grouped(); },
                     [] { return prepare_take_picks(); }, [] { return prepare_pack(); });
}

}  // namespace blockmoe::kernels::stages
