// device_inputs.cpp: see device_inputs.hpp.
#include "measure/device_inputs.hpp"

#include <cstddef>
#include <utility>

namespace blockmoe::measure {
namespace {

std::size_t bytes_of(DType type) {
  switch (type) {
    case DType::float32:
    case DType::int32:
      return 4;
    case DType::bfloat16:
      return 2;
    case DType::float8_e4m3:
      return 1;
  }
  return 0;
}

// Bytes from the first element to the last one, gaps of a pitch included.
std::size_t extent(const Tensor& tensor) {
  std::int64_t last = 0;
  for (int axis = 0; axis < tensor.rank; ++axis) {
    if (tensor.dim(axis) == 0) return 0;
    last += (tensor.dim(axis) - 1) * tensor.step(axis);
  }
  return static_cast<std::size_t>(last + 1) * bytes_of(tensor.dtype);
}

Status move_to_device(Tensor& tensor, int index, std::vector<std::shared_ptr<void>>& memory) {
  tensor.device = {DeviceType::cuda, index};
  if (tensor.data == nullptr) return {};
  const std::size_t bytes = extent(tensor);
  auto copy = allocate(bytes, "inputs");
  if (!copy.ok()) return copy.status();
  BLOCKMOE_CUDA_TRY(cudaMemcpy(copy.value().get(), tensor.data, bytes, cudaMemcpyHostToDevice));
  tensor.data = copy.value().get();
  memory.push_back(std::move(copy).value());
  return {};
}

Status place_activations(const workload::Inputs& inputs, int index, DeviceInputs& device) {
  device.activations = inputs.activations;
  device.public_activations = inputs.public_activations();
  blockmoe::Activations& a = device.public_activations;
  for (Tensor* tensor : {&a.routing_logits, &a.hidden_states, &a.hidden_states_scale}) {
    BLOCKMOE_TRY(move_to_device(*tensor, index, device.memory));
  }
  device.activations.routing_logits = a.routing_logits.data;
  device.activations.hidden = static_cast<const std::uint8_t*>(a.hidden_states.data);
  device.activations.hidden_scale = static_cast<const float*>(a.hidden_states_scale.data);
  return {};
}

}  // namespace

Result<DeviceInputs> copy_to_device(const workload::Inputs& inputs, int index) {
  DeviceInputs device;
  device.weights = inputs.weights;
  device.public_weights = inputs.public_weights();
  blockmoe::Weights& w = device.public_weights;
  for (Tensor* tensor :
       {&w.routing_bias, &w.gemm1_weights, &w.gemm1_weights_scale, &w.gemm2_weights, &w.gemm2_weights_scale}) {
    BLOCKMOE_TRY(move_to_device(*tensor, index, device.memory));
  }
  device.weights.routing_bias = w.routing_bias.data;
  device.weights.w13 = static_cast<const std::uint8_t*>(w.gemm1_weights.data);
  device.weights.w13_scale = static_cast<const float*>(w.gemm1_weights_scale.data);
  device.weights.w2 = static_cast<const std::uint8_t*>(w.gemm2_weights.data);
  device.weights.w2_scale = static_cast<const float*>(w.gemm2_weights_scale.data);
  BLOCKMOE_TRY(place_activations(inputs, index, device));
  return device;
}

Result<DeviceInputs> copy_activations(const workload::Inputs& inputs, const DeviceInputs& other, int index) {
  DeviceInputs device = other;
  BLOCKMOE_TRY(place_activations(inputs, index, device));
  return device;
}

}  // namespace blockmoe::measure
