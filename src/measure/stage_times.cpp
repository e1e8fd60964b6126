// stage_times.cpp: see stage_times.hpp. Goes through the door of kernels/, since the public API has no stages.
#include "measure/stage_times.hpp"

#include <array>
#include <cstdint>
#include <utility>

#include "operator.h"

namespace blockmoe::measure {

Result<std::map<std::string, double>> time_stages(Timer& timer, const GpuCall& call, const contract::Geometry& geometry,
                                                  const DeviceInfo& device, const Options& plan_options,
                                                  const TimingOptions& options) {
  const contract::Activations activations = call.activations();
  kernels::Request request;
  request.geometry = geometry;
  request.max_tokens = activations.tokens;
  request.device = {device.compute_capability, device.sm_count, device.shared_memory_per_block};
  request.pruning = {plan_options.pruning.max_local_picks, plan_options.pruning.min_weight_share};
  request.path = call.plan().backend() == Backend::hopper ? kernels::Path::hopper : kernels::Path::portable;
  const auto status_of = [](const kernels::Error& error) {
    if (error.ok()) return Status();
    return Status(StatusCode::device_error, std::string("kernel ") + error.kernel + ": " + kernels::error_text(error));
  };
  kernels::Bound bound;
  BLOCKMOE_TRY(status_of(kernels::bind(kernels::make_plan(request), call.inputs().weights, &bound)));

  using Stages = std::pair<const char*, std::uint32_t>;
  constexpr std::array kStages = {Stages("route", kernels::kRoute),
                                  Stages("pack", kernels::kPack),
                                  Stages("route+pack", kernels::kRoute | kernels::kPack),
                                  Stages("gemm1", kernels::kGemm1),
                                  Stages("gemm2", kernels::kGemm2),
                                  Stages("combine", kernels::kCombine)};
  std::map<std::string, double> times;
  for (const auto& [name, stage] : kStages) {
    const auto sample = timer.graph(
        [&, chosen = stage](void* stream) {
          return status_of(kernels::launch_stages(bound, activations, call.workspace(), stream, chosen));
        },
        options);
    if (!sample.ok()) return sample.status();
    times[name] = sample.value().median_us;
  }
  return times;
}

}  // namespace blockmoe::measure
