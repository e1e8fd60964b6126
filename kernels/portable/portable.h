// portable.h: the path that runs on every NVIDIA GPU from sm_80 on. docs/kernels/portable.md explains it.
#pragma once

#include <cstdint>
#include <string>

#include <cuda_runtime_api.h>

#include "operator.h"
#include "path.h"
#include "stages/slab.h"

namespace blockmoe::kernels::portable {

// hidden, w13 -> inter, inter_scale
Error launch_gemm1(const stages::Slab& slab, std::int32_t chunk, int stages, cudaStream_t stream);
Error prepare_gemm1(int stages);

// inter, w2 -> rows
Error launch_gemm2(const stages::Slab& slab, std::int32_t chunk, int stages, cudaStream_t stream);
Error prepare_gemm2(int stages);

PathEntry path_entry();

}  // namespace blockmoe::kernels::portable
