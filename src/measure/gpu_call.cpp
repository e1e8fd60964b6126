// gpu_call.cpp: see gpu_call.hpp.
#include "measure/gpu_call.hpp"

#include <utility>

namespace blockmoe::measure {
namespace {

Result<DeviceMemory> filled(std::size_t bytes, Fill fill, const char* what) {
  auto memory = allocate(bytes, what);
  if (!memory.ok()) return memory;
  if (bytes != 0 && fill == Fill::poison) BLOCKMOE_CUDA_TRY(cudaMemset(memory.value().get(), 0xff, bytes));
  return memory;
}

}  // namespace

GpuCall::GpuCall(const Plan& plan, const BoundPlan& bound, DeviceInputs inputs, DeviceMemory workspace,
                 DeviceMemory output)
    : plan_(plan),
      bound_(bound),
      inputs_(std::move(inputs)),
      workspace_(std::move(workspace)),
      output_(std::move(output)) {
  tokens_ = inputs_.activations.tokens;
  hidden_ = inputs_.public_activations.hidden_states.dim(1);
}

Result<GpuCall> GpuCall::create(const workload::Inputs& inputs, const DeviceInfo& device, const Options& options,
                                Fill fill) {
  auto placed = copy_to_device(inputs, device.device.index);
  if (!placed.ok()) return placed.status();
  return create(inputs, std::move(placed).value(), device, options, fill);
}

Result<GpuCall> GpuCall::create(const workload::Inputs& inputs, DeviceInputs placed, const DeviceInfo& device,
                                const Options& options, Fill fill) {
  auto plan = Plan::create(inputs.public_geometry(), inputs.tokens(), device, options);
  if (!plan.ok()) return plan.status();
  auto bound = plan.value().bind(placed.public_weights);
  if (!bound.ok()) return bound.status();
  const WorkspaceNeed need = plan.value().workspace();
  auto workspace = filled(need.bytes, fill, "workspace");
  if (!workspace.ok()) return workspace.status();
  if (need.init == WorkspaceInit::zeroed_once) BLOCKMOE_CUDA_TRY(cudaMemset(workspace.value().get(), 0, need.bytes));
  auto output = filled(static_cast<std::size_t>(inputs.tokens() * inputs.geometry.hidden) * sizeof(std::uint16_t), fill,
                       "output");
  if (!output.ok()) return output.status();
  BLOCKMOE_CUDA_TRY(cudaDeviceSynchronize());
  return GpuCall(plan.value(), bound.value(), std::move(placed), std::move(workspace).value(),
                 std::move(output).value());
}

contract::Activations GpuCall::activations() const {
  contract::Activations activations = inputs_.activations;
  activations.output = static_cast<std::uint16_t*>(output_.get());
  activations.output_pitch = hidden_;
  return activations;
}

Status GpuCall::enqueue(void* stream) const {
  const Device device = inputs_.public_activations.hidden_states.device;
  const Tensor output = Tensor::contiguous(output_.get(), DType::bfloat16, device, {tokens_, hidden_});
  return bound_.run(inputs_.public_activations, output, {workspace_.get(), plan_.workspace().bytes}, stream);
}

Result<std::vector<std::uint16_t>> GpuCall::fetch_output() const {
  std::vector<std::uint16_t> output(static_cast<std::size_t>(tokens_ * hidden_));
  BLOCKMOE_CUDA_TRY(cudaDeviceSynchronize());
  if (!output.empty())
    BLOCKMOE_CUDA_TRY(
        cudaMemcpy(output.data(), output_.get(), output.size() * sizeof(std::uint16_t), cudaMemcpyDeviceToHost));
  return output;
}

Status GpuCall::poison_output() const {
  if (tokens_ != 0)
    BLOCKMOE_CUDA_TRY(
        cudaMemset(output_.get(), 0xff, static_cast<std::size_t>(tokens_ * hidden_) * sizeof(std::uint16_t)));
  return {};
}

}  // namespace blockmoe::measure
