// hopper.cpp: the path's row: when it runs, and its stages in order.
//
// The first kernel is an ordinary launch; every kernel behind it starts before the one ahead has ended (ptx/griddepcontrol.h).
#include "hopper/hopper.h"

#include <algorithm>
#include <array>
#include <memory>
#include <string>

#include "hopper/products.h"
#include "launch.h"
#include "once_a_context.h"
#include "stages/stages.h"
#include "trace.h"

namespace blockmoe::kernels::hopper {
namespace {

constexpr std::int32_t kSharedMemory = 227 * 1024;  // that the kernels are planned for
constexpr std::array kWidths = {Width::narrow, Width::middle, Width::wide};

bool supports(const Request& request, std::string* why_not) {
  if (request.device.compute_capability != 90) {
    *why_not = "compute capability " + std::to_string(request.device.compute_capability) + ", expected 90 (sm_90a)";
    return false;
  }
  if (request.device.shared_memory_per_block < kSharedMemory) {
    *why_not = std::to_string(request.device.shared_memory_per_block) + " bytes of shared memory a block, expected " +
               std::to_string(kSharedMemory);
    return false;
  }
  return true;
}

Config config_of(const Request& request, std::int64_t tokens) {
  const Config config = plan::hopper_config(request.geometry, tokens);
  return request.batch_invariant ? plan::batch_invariant(config) : config;
}

const char* plan_name(const Request& request) {
  switch (config_of(request, request.max_tokens).width) {
    case Width::narrow:
      return "hopper/narrow";
    case Width::middle:
      return "hopper/middle";
    case Width::wide:
      return "hopper/wide";
  }
  return "";
}

const char* gemm1_text(const Config& config) {
  if (config.width == Width::narrow && config.exact_gemm1) {
    return "; gemm1 by mma.sync on fp16, to which e4m3 widens exactly; ";
  }
  return config.gemm1_in_halves ? ", in gemm1 every 64; " : "; ";
}

ProductNames product_names(const Request& request) {
  const Config config = config_of(request, request.max_tokens);
  switch (config.width) {
    case Width::narrow:
      return {config.exact_gemm1 ? "hopper/mma_f16" : "hopper/wgmma_swapped", "hopper/wgmma_swapped"};
    case Width::middle:
      return {"hopper/wgmma_swapped", "hopper/wgmma_swapped"};
    case Width::wide:
      return {"hopper/wgmma_by_rows", "hopper/wgmma_by_rows"};
  }
  return {};
}

std::string explain(const Request& request) {
  const Config config = config_of(request, request.max_tokens);
  return "products: wgmma on e4m3, weights by rows and each expert's own rows as columns" +
         std::string(config.width == Width::wide ? " up to " + std::to_string(plan::kMostSwappedRows) +
                                                       " of them, the other way round from there"
                                                 : "") +
         ", promoted to fp32 every 128 of K" + gemm1_text(config) + "column tiles of up to " +
         std::to_string(static_cast<int>(config.width)) + " rows at T = " + std::to_string(request.max_tokens) + ": " +
         config.reason + "\n" +
         (request.batch_invariant ? "batch-invariant: no tile is cut, rows in f32, and gemm1 is the same at every T\n"
                                  : "");
}

std::int32_t sms_of(const Request& request) {
  const std::int32_t all = request.device.sm_count;
  return request.max_sms > 0 ? std::min(request.max_sms, all) : all;
}

// Flags, then sums. A call of fewer tokens may have more chunks or fewer, and a narrower width: room for the most of each.
std::size_t all_flag_bytes(const Request& request) {
  const std::size_t bytes = flag_bytes(sms_of(request), request.geometry.local_experts, plan::kMaxChunks);
  return (bytes + kWorkspaceAlignment - 1) / kWorkspaceAlignment * kWorkspaceAlignment;
}

std::size_t workspace_bytes(const Request& request) {
  return all_flag_bytes(request) + sum_bytes(sms_of(request), config_of(request, request.max_tokens).width);
}

struct State {
  Request request;
  Maps maps;
};

Error prepare_kernels() {
  Error error = first_error([] { return stages::prepare_routing(); }, [] { return stages::prepare_combine(); });
  for (const Width width : kWidths) {
    if (error.ok()) error = error_in("gemm1 and gemm2", prepare(width));
  }
  return error;
}

Error bind(const Plan& plan, const contract::Weights& weights, std::shared_ptr<const void>* state) {
  static OnceAContext kernels_prepared(current_context);
  constexpr std::int32_t kOnlyVariant = 0;
  auto bound = std::make_shared<State>();
  bound->request = plan.request;
  const Error error =
      first_error([] { return kernels_prepared.run(kOnlyVariant, prepare_kernels); },
                  [&] { return error_in("tensor maps", make_maps(plan.request.geometry, weights, &bound->maps)); });
  *state = std::move(bound);
  return error;
}

Error launch_slab(const stages::Slab& shared_slab, const void* opaque_state, cudaStream_t stream) {
  const auto& state = *static_cast<const State*>(opaque_state);
  const Config config = config_of(state.request, shared_slab.activations.tokens);
  const Scratch scratch{
      reinterpret_cast<float4*>(static_cast<char*>(shared_slab.path_workspace) + all_flag_bytes(state.request)),
      static_cast<std::uint32_t*>(shared_slab.path_workspace)};
  stages::Slab slab = shared_slab;
  slab.counters = scratch.flags;
  slab.counter_words = flag_words(slab.sms, slab.geometry.local_experts) * slab.sizes.max_chunks;
  slab.dependent_launches = true;
  slab.zeros_written = config.writes_zeros && (slab.wanted & kCombine) != 0 && (slab.wanted & (kGemm1 | kGemm2)) != 0;

  Error error = stages::launch_routing(slab, stream);
  const bool products_alone = (slab.wanted & kPack) == 0 && (slab.wanted & (kGemm1 | kGemm2)) != 0;
  if (error.ok() && products_alone) error = error_in("counters", launch_clear(slab, stream));
  for (std::int32_t chunk = 0; chunk < slab.sizes.max_chunks && error.ok(); ++chunk) {
    error = first_error(
        [&] {
          if ((slab.wanted & (kGemm1 | kGemm2)) == 0) return Error{};
          const TraceRange range("gemm1 and gemm2");
          return error_in("gemm1 and gemm2", launch_products(slab, chunk, state.maps, scratch, config, stream));
        },
        [&] { return (slab.wanted & kCombine) != 0 ? stages::launch_combine(slab, chunk, stream) : Error{}; });
  }
  return error;
}

}  // namespace

PathEntry path_entry() {
  return {Path::hopper,    "hopper", supports,    plan_name,          explain,
          workspace_bytes, bind,     launch_slab, plan::RowType::f16, product_names};
}

}  // namespace blockmoe::kernels::hopper
