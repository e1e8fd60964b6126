#include "hopper/launch_products.cuh"

namespace blockmoe::kernels::hopper {

template cudaError_t prepare_products<Middle>(std::int32_t);
template cudaError_t launch_products<Middle>(const CUtensorMap&, const CUtensorMap&, const Params&, std::int32_t,
                                             cudaStream_t);

}  // namespace blockmoe::kernels::hopper
