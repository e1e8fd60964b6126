// call.hpp: what Python's arguments are to the library, the same in every function that takes them.
#pragma once

#include <tvm/ffi/tvm_ffi.h>

#include <cstdint>
#include <string>

#include "blockmoe/blockmoe.hpp"

namespace blockmoe::python {

/// Optional of a view does not exist; a Tensor counts references, which the few that may be absent can pay.
using OptionalTensor = tvm::ffi::Optional<tvm::ffi::Tensor>;

/// Throws ValueError in the name of `argument` for more than 32 bits.
std::int32_t to_int32(const char* argument, std::int64_t value);

/// A device by its name: "cpu", "cuda", "cuda:1"; or an architecture that need not be here.
DeviceInfo device_named(const std::string& name);

Geometry geometry_of(std::int64_t experts, std::int64_t hidden, std::int64_t intermediate, std::int64_t local_experts,
                     std::int64_t top_k, std::int64_t n_group, std::int64_t topk_group);

Weights weights_of(const OptionalTensor& routing_bias, const tvm::ffi::TensorView& gemm1_weights,
                   const tvm::ffi::TensorView& gemm1_weights_scale, const tvm::ffi::TensorView& gemm2_weights,
                   const tvm::ffi::TensorView& gemm2_weights_scale, std::int64_t local_expert_offset,
                   double routed_scaling_factor);

Activations activations_of(const tvm::ffi::TensorView& routing_logits, const tvm::ffi::TensorView& hidden_states,
                           const tvm::ffi::TensorView& hidden_states_scale);

/// The caller's output, or a new one. A new one's shape follows hidden_states, which the call then judges.
tvm::ffi::Tensor output_for(const OptionalTensor& given, const tvm::ffi::TensorView& hidden_states, Device device);

/// The caller's current stream.
Stream stream_of(Device device);

}  // namespace blockmoe::python
