// swiglu.h: SwiGLU and the requantisation as a stage of their own, for paths whose gemm1 leaves its sums in memory. Host.
#pragma once

#include <cstdint>

#include <cuda_runtime_api.h>

#include "operator.h"
#include "plan/sizes.h"

namespace blockmoe::kernels::stages {

struct SwigluCall {
  const void* gate_up = nullptr;  // [rows, 2I] of `type`, aligned to 16 bytes
  plan::RowType type = plan::RowType::f32;
  std::int64_t intermediate = 0;  // I
  std::int64_t up_column = 0;     // first column of each half
  std::int64_t gate_column = 0;
  const std::int32_t* rows = nullptr;         // [1] on the device
  const std::int32_t* scale_pitch = nullptr;  // [1] on the device: of inter_scale
  std::int64_t row_capacity = 0;              // `rows` is at most this
  std::uint8_t* inter = nullptr;              // [rows, I] e4m3 out
  float* inter_scale = nullptr;               // [I/128, scale_pitch] out
  std::int32_t sms = 0;                       // multiprocessors that it may use
};

Error launch_swiglu(const SwigluCall& call, cudaStream_t stream);
Error prepare_swiglu();

}  // namespace blockmoe::kernels::stages
