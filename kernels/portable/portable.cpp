// portable.cpp: the path's row: when it runs, and its stages in order.
#include "portable/portable.h"

#include <memory>

#include "launch.h"
#include "once_a_context.h"
#include "portable/shape.h"
#include "stages/stages.h"

namespace blockmoe::kernels::portable {
namespace {

struct State {
  int ring_stages;
};

bool supports(const Request& request, std::string* why_not) {
  if (request.device.compute_capability >= 80) return true;
  *why_not =
      "compute capability " + std::to_string(request.device.compute_capability) + ", expected 80 or more (sm_80)";
  return false;
}

const char* plan_name(const Request&) {
  return "portable/f16_mma";
}

std::string explain(const Request& request) {
  const int stages = ring_stages_of(request.device, request.geometry);
  return "products: mma.sync on fp16, to which e4m3 widens exactly, promoted to fp32 every 128 of K; tiles of up to " +
         std::to_string(kTileRows) + " rows x " + std::to_string(kBlocks * kBlockColumns) + " columns; a ring of " +
         std::to_string(stages) + " stages of " + std::to_string(sizeof(Stage)) + " bytes\n";
}

std::size_t workspace_bytes(const Request&) {
  return 0;
}

Error bind(const Plan& plan, const contract::Weights&, std::shared_ptr<const void>* state) {
  static OnceAContext kernels_prepared(current_context);
  const int stages = ring_stages_of(plan.request.device, plan.request.geometry);
  *state = std::make_shared<const State>(State{stages});
  return kernels_prepared.run(stages, [&] {
    return first_error([] { return stages::prepare_routing(); }, [&] { return prepare_gemm1(stages); },
                       [&] { return prepare_gemm2(stages); }, [] { return stages::prepare_combine(); });
  });
}

Error launch_slab(const stages::Slab& slab, const void* state, cudaStream_t stream) {
  const int stages = static_cast<const State*>(state)->ring_stages;
  const auto wanted = [&](kernels::Stage stage, auto launch) {
    return (slab.wanted & stage) != 0 ? launch() : Error{};
  };
  Error error = stages::launch_routing(slab, stream);
  for (std::int32_t chunk = 0; chunk < slab.sizes.max_chunks && error.ok(); ++chunk) {
    error = first_error([&] { return wanted(kGemm1, [&] { return launch_gemm1(slab, chunk, stages, stream); }); },
                        [&] { return wanted(kGemm2, [&] { return launch_gemm2(slab, chunk, stages, stream); }); },
                        [&] { return wanted(kCombine, [&] { return stages::launch_combine(slab, chunk, stream); }); });
  }
  return error;
}

}  // namespace

PathEntry path_entry() {
  return {Path::portable, "portable", supports, plan_name, explain, workspace_bytes, bind, launch_slab};
}

}  // namespace blockmoe::kernels::portable
