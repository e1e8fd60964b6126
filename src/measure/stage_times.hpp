// stage_times.hpp: each stage of a call by itself, and the call up to each stage.
#pragma once

#include <map>
#include <string>

#include "api/backend.hpp"
#include "blockmoe/status.hpp"
#include "measure/gpu_call.hpp"
#include "measure/timing.hpp"

namespace blockmoe::measure {

/// Median microseconds of each stage's launches alone, by the stage's name, on a flushed L2: what a stage finds in the L2 within a
/// call it reads from memory here, so the stages add up to more than the call. Under names that begin with "route+pack", the call up to
/// a stage: the differences are what each stage adds to it. `call` must have run once, on a plan of `request`.
Result<std::map<std::string, double>> time_stages(Timer& timer, const GpuCall& call, const api::PlanRequest& request,
                                                  const TimingOptions& options);

}  // namespace blockmoe::measure
