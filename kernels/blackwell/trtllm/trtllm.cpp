// trtllm.cpp: grouped products by TRTLLM's batched-GEMM kernels: when they run, and their launches: the maps, then the kernel.
#include <array>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "blackwell/products.h"
#include "blackwell/trtllm/configs.h"
#include "blackwell/trtllm/driver_calls.h"
#include "blackwell/trtllm/maps.h"
#include "blackwell/trtllm/modules.h"
#include "launch.h"
#include "once_a_context.h"
#include "plan/sizes.h"
#include "trace.h"

namespace blockmoe::kernels::blackwell::trtllm {
namespace {

// Rows of an expert a CTA takes. The original system's, which is the one whose times on a B200 are known; the package has kernels of
// 8 to 128, and none has been measured here.
constexpr std::int32_t kTile = 64;
constexpr std::int32_t kWidestPadding = 128;  // that another implementation may ask for

constexpr std::array kProducts = {Product::gemm1, Product::gemm2};

struct Shape {
  std::int64_t columns, depth;
};

Shape shape_of(const contract::Geometry& g, Product product) {
  return product == Product::gemm1 ? Shape{2 * g.intermediate, g.hidden} : Shape{g.hidden, g.intermediate};
}

std::int32_t config_of(const Request& request, Product product, std::string* why_not) {
  const Shape shape = shape_of(request.geometry, product);
  return choose_config(shape.columns, shape.depth, request.geometry.local_experts, kTile, why_not);
}

bool supports(const Request& request, std::string* why_not) {
  if (*why_no_configs() != '\0') {
    *why_not = why_no_configs();
    return false;
  }
  const std::int32_t capability = request.device.compute_capability;
  if (capability != 100 && capability != 103) {
    *why_not = "compute capability " + std::to_string(capability) + ", expected 100 or 103 (sm_100f)";
    return false;
  }
  if (request.max_sms > 0 && request.max_sms < request.device.sm_count) {
    *why_not = "max_sms " + std::to_string(request.max_sms) + " of " + std::to_string(request.device.sm_count) +
               ": these kernels' CTAs take every multiprocessor that is free";
    return false;
  }
  for (const Product product : kProducts) {
    const std::int32_t index = config_of(request, product, why_not);
    if (index < 0 || checked_cubin(index, why_not) == nullptr) return false;
  }
  return true;
}

std::int32_t row_padding(const Request&) {
  return kTile;
}

bool gives(plan::RowType type) {
  return type == plan::RowType::bf16;
}

std::string explain(const Request& request, Product product) {
  std::string why_not;
  const Config* const config = config_at(config_of(request, product, &why_not), &why_not);
  if (config == nullptr) return why_not;
  return "tiles of 128 columns x " + std::to_string(config->tile) +
         " rows, promoted to fp32 every 128 of K, rounded to bf16: " + config->function;
}

// Every expert's rows may be padded to what another implementation asks for.
std::size_t workspace_bytes(const Request& request) {
  const std::int64_t rows = plan::sizes_of(request.geometry, request.max_tokens).row_capacity +
                            static_cast<std::int64_t>(request.geometry.local_experts) * kWidestPadding;
  return map_bytes(most_tiles(rows, kTile));
}

struct Kernel {
  std::int32_t config = -1;
  CUfunction function = nullptr;
  Arguments arguments;
};

struct State {
  std::array<Kernel, kProducts.size()> kernels;  // by Product
};

Error error_of(const char* what, CUresult result) {
  return error_in(what, static_cast<cudaError_t>(result));  // the runtime's numbers are the driver's
}

Error bind_product(const Request& request, Product product, Kernel* kernel) {
  std::string why_not;  // supports() has said it
  const Shape shape = shape_of(request.geometry, product);
  kernel->config = config_of(request, product, &why_not);
  const Config* const config = config_at(kernel->config, &why_not);
  const std::vector<char>* const cubin = checked_cubin(kernel->config, &why_not);
  if (config == nullptr || cubin == nullptr) return error_in("cubin", cudaErrorFileNotFound);
  return first_error([&] { return error_of("cubin", load_kernel(*config, *cubin, &kernel->function)); },
                     [&] {
                       return make_arguments(kernel->config, shape.columns, shape.depth, request.geometry.local_experts,
                                             &kernel->arguments, &why_not)
                                  ? Error{}
                                  : error_in("tensor maps", cudaErrorInvalidValue);
                     });
}

Error bind(const Plan& plan, std::shared_ptr<const void>* state) {
  static OnceAContext maps_prepared(current_context);
  constexpr std::int32_t kOnlyVariant = 0;
  auto bound = std::make_shared<State>();
  Error error = maps_prepared.run(kOnlyVariant, prepare_maps);  // makes the context, where there is none yet
  for (const Product product : kProducts) {
    if (error.ok()) error = bind_product(plan.request, product, &bound->kernels[static_cast<std::size_t>(product)]);
  }
  *state = std::move(bound);
  return error;
}

CUresult launch_kernel_on(cudaStream_t stream, const Kernel& kernel, const ProductCall& call, std::int64_t tiles,
                          Arguments* arguments) {
  static DriverFunction<PFN_cuLaunchKernelEx_v11060> launch_ex("cuLaunchKernelEx", 11060);
  std::string ignored;
  const Config* const config = config_at(kernel.config, &ignored);
  const Grid grid = grid_of(kernel.config, call.columns, tiles);
  CUlaunchConfig shape = {};
  shape.gridDimX = grid.x;
  shape.gridDimY = grid.y;
  shape.gridDimZ = grid.z;
  shape.blockDimX = config->threads;
  shape.blockDimY = shape.blockDimZ = 1;
  shape.sharedMemBytes = config->shared_bytes;
  shape.hStream = stream;
  // A cluster of one, said aloud as the package's own launches do. An ordinary launch otherwise: the kernel would start early, but
  // whether each of its CTAs waits for the one ahead is not for us to see.
  CUlaunchAttribute cluster = {};
  cluster.id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
  cluster.value.clusterDim.x = cluster.value.clusterDim.y = cluster.value.clusterDim.z = 1;
  shape.attrs = &cluster;
  shape.numAttrs = 1;
  void* parameters[] = {arguments->bytes};
  return call_driver(launch_ex, static_cast<const CUlaunchConfig*>(&shape), kernel.function,
                     static_cast<void**>(parameters), static_cast<void**>(nullptr));
}

Error launch(const ProductCall& call, const void* state, cudaStream_t stream) {
  const char* const name = call.product == Product::gemm1 ? "gemm1" : "gemm2";
  const TraceRange range(name);
  const Kernel& kernel = static_cast<const State*>(state)->kernels[static_cast<std::size_t>(call.product)];
  const std::int64_t tiles = most_tiles(call.row_capacity, kTile);
  const Maps maps = maps_at(call.workspace, tiles);
  Arguments arguments = kernel.arguments;
  return first_error(
      [&] { return launch_maps(call.row_begin, call.row_count, call.experts, kTile, tiles, maps, stream); },
      [&] { return error_of(name, fill_arguments(call, maps, &arguments)); },
      [&] { return error_of(name, launch_kernel_on(stream, kernel, call, tiles, &arguments)); });
}

ProductEntry entry() {
  return {Implementation::trtllm, supports, row_padding, gives, explain, workspace_bytes, bind, launch};
}

}  // namespace
}  // namespace blockmoe::kernels::blackwell::trtllm

namespace blockmoe::kernels::blackwell {

ProductEntry trtllm_entry() {
  return trtllm::entry();
}

}  // namespace blockmoe::kernels::blackwell
