// stage_times.cpp: see stage_times.hpp. Goes through the door of kernels/, since the public API has no stages.
#include "measure/stage_times.hpp"

#include <array>
#include <cstdint>
#include <utility>

#include "api/cuda_backend.hpp"
#include "operator.h"

namespace blockmoe::measure {
namespace {

kernels::Path path_of(Backend backend) {
  switch (backend) {
    case Backend::hopper:
      return kernels::Path::hopper;
    case Backend::blackwell:
      return kernels::Path::blackwell;
    default:
      return kernels::Path::portable;
  }
}

}  // namespace

Result<std::map<std::string, double>> time_stages(Timer& timer, const GpuCall& call, const api::PlanRequest& request,
                                                  const TimingOptions& options) {
  const contract::Activations activations = call.activations();
  const auto status_of = [](const kernels::Error& error) {
    if (error.ok()) return Status();
    return Status(StatusCode::device_error, std::string("kernel ") + error.kernel + ": " + kernels::error_text(error));
  };
  kernels::Bound bound;
  BLOCKMOE_TRY(status_of(kernels::bind(kernels::make_plan(api::kernel_request(request, path_of(call.plan().backend()))),
                                       call.inputs().weights, &bound)));

  using Stages = std::pair<const char*, std::uint32_t>;
  constexpr std::uint32_t kRouting = kernels::kRoute | kernels::kPack;
  constexpr std::uint32_t kProducts = kernels::kGemm1 | kernels::kGemm2;
  constexpr std::array kStages = {Stages("route", kernels::kRoute),
                                  Stages("pack", kernels::kPack),
                                  Stages("route+pack", kRouting),
                                  Stages("gemm1", kernels::kGemm1),
                                  Stages("gemm2", kernels::kGemm2),
                                  Stages("gemm1+gemm2", kProducts),
                                  Stages("combine", kernels::kCombine),
                                  Stages("route+pack+gemm1", kRouting | kernels::kGemm1),
                                  Stages("route+pack+gemm1+gemm2", kRouting | kProducts)};
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
