// params.cuh: what a launch of both products tells them.
#pragma once

#include "hopper/gemm1.cuh"
#include "hopper/gemm2.cuh"
#include "hopper/product_plan.cuh"

namespace blockmoe::kernels::hopper {

struct Params {
  ChunkParams chunk;
  Gemm1::Params gemm1;
  Gemm2::Params gemm2;
};

}  // namespace blockmoe::kernels::hopper
