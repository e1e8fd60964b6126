#include "hopper/gemm1.cuh"
#include "hopper/launch_product.cuh"

namespace blockmoe::kernels::hopper {

template cudaError_t prepare_product<Gemm1, Middle>(std::int32_t);
template cudaError_t launch_product<Gemm1, Middle>(const CUtensorMap&, const Gemm1::Params&, std::int32_t,
                                                   cudaStream_t);

}  // namespace blockmoe::kernels::hopper
