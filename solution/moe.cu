// moe.cu: the operator as a runner of flashinfer-bench calls it: entry `run`, tensors in the order of the definition, output last.
//
// The one file of the workspace that knows TVM-FFI; all others are those of kernels/. It keeps no plan: each call plans, binds,
// takes its workspace from the framework's allocator and launches on the caller's current stream. What that asks of the driver is
// known from the first call on (once_a_context.h).
#include <tvm/ffi/extra/c_env_api.h>
#include <tvm/ffi/tvm_ffi.h>

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <sstream>
#include <string>

#include "contract/call.h"
#include "operator.h"

namespace {

using blockmoe::contract::kScaleBlock;
using tvm::ffi::TensorView;

// The definition's constants that no tensor's shape tells.
constexpr std::int32_t kTopK = 8;
constexpr std::int32_t kGroups = 8;
constexpr std::int32_t kKeptGroups = 4;

template <typename Sizes>
std::string list(const Sizes& sizes) {
  std::ostringstream text;
  text << '[';
  const char* comma = "";
  for (const std::int64_t size : sizes) {
    text << comma << size;
    comma = ", ";
  }
  text << ']';
  return text.str();
}

// What an argument must be: its name, its shape, and its type as DLPack has it.
struct Expected {
  const char* name;
  std::initializer_list<std::int64_t> shape;
  DLDataType type;
};

constexpr DLDataType kF32{kDLFloat, 32, 1};
constexpr DLDataType kBf16{kDLBfloat, 16, 1};
constexpr DLDataType kE4m3{kDLFloat8_e4m3fn, 8, 1};

void check(const TensorView& tensor, const Expected& expected, DLDevice device) {
  const tvm::ffi::ShapeView shape = tensor.shape();
  if (!std::equal(shape.begin(), shape.end(), expected.shape.begin(), expected.shape.end()))
    TVM_FFI_THROW(ValueError) << expected.name << ": shape " << list(shape) << ", expected " << list(expected.shape);
  const DLDataType type = tensor.dtype();
  if (type.code != expected.type.code || type.bits != expected.type.bits || type.lanes != 1) {
    TVM_FFI_THROW(TypeError) << expected.name << ": type " << tvm::ffi::DLDataTypeToString(type) << ", expected "
                             << tvm::ffi::DLDataTypeToString(expected.type);
  }
  if (tensor.device().device_type != kDLCUDA || tensor.device().device_id != device.device_id)
    TVM_FFI_THROW(ValueError) << expected.name << ": not on CUDA device " << device.device_id
                              << ", where hidden_states is";
  if (!tensor.IsContiguous()) TVM_FFI_THROW(ValueError) << expected.name << ": strided, expected contiguous";
  if (reinterpret_cast<std::uintptr_t>(tensor.data_ptr()) % 16 != 0)
    TVM_FFI_THROW(ValueError) << expected.name << ": misaligned, expected 16 bytes";
}

template <typename T>
T* pointer(const TensorView& tensor) {
  return static_cast<T*>(tensor.data_ptr());
}

std::int32_t attribute(cudaDeviceAttr which, int device) {
  int value = 0;
  if (cudaDeviceGetAttribute(&value, which, device) != cudaSuccess)
    TVM_FFI_THROW(RuntimeError) << "cuda:" << device << " does not answer";
  return value;
}

blockmoe::kernels::Device describe(int device) {
  return {
      attribute(cudaDevAttrComputeCapabilityMajor, device) * 10 + attribute(cudaDevAttrComputeCapabilityMinor, device),
      attribute(cudaDevAttrMultiProcessorCount, device), attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, device)};
}

void require_ok(cudaError_t error) {
  if (error != cudaSuccess) TVM_FFI_THROW(RuntimeError) << cudaGetErrorString(error);
}

// The operator runs on the current device; the tensors may be on another. The caller's is current again in the end.
class CurrentDevice {
 public:
  explicit CurrentDevice(int device) {
    int current = device;
    require_ok(cudaGetDevice(&current));
    if (current == device) return;
    require_ok(cudaSetDevice(device));
    before_ = current;
  }
  ~CurrentDevice() {
    if (before_ >= 0) cudaSetDevice(before_);
  }
  CurrentDevice(const CurrentDevice&) = delete;
  CurrentDevice& operator=(const CurrentDevice&) = delete;

 private:
  int before_ = -1;  // -1: nothing to restore
};

void require_ok(const blockmoe::kernels::Error& error) {
  if (!error.ok())
    TVM_FFI_THROW(RuntimeError) << "kernel " << error.kernel << ": " << blockmoe::kernels::error_text(error);
}

// Shapes and types: the definition's. T = 0 is valid.
void run(TensorView routing_logits, TensorView routing_bias, TensorView hidden_states, TensorView hidden_states_scale,
         TensorView gemm1_weights, TensorView gemm1_weights_scale, TensorView gemm2_weights,
         TensorView gemm2_weights_scale, std::int64_t local_expert_offset, double routed_scaling_factor,
         TensorView output) {
  if (hidden_states.ndim() != 2)
    TVM_FFI_THROW(ValueError) << "hidden_states: " << hidden_states.ndim() << " dimensions, expected [T, H]";
  if (routing_logits.ndim() != 2)
    TVM_FFI_THROW(ValueError) << "routing_logits: " << routing_logits.ndim() << " dimensions, expected [T, E]";
  if (gemm2_weights.ndim() != 3)
    TVM_FFI_THROW(ValueError) << "gemm2_weights: " << gemm2_weights.ndim() << " dimensions, expected [L, H, I]";
  const std::int64_t T = hidden_states.size(0);
  const std::int64_t H = hidden_states.size(1);
  const std::int64_t E = routing_logits.size(1);
  const std::int64_t L = gemm2_weights.size(0);
  const std::int64_t I = gemm2_weights.size(2);
  if (H % kScaleBlock != 0 || I % kScaleBlock != 0)
    TVM_FFI_THROW(ValueError) << "hidden " << H << ", intermediate " << I << ", expected multiples of 128";
  if (L < 1 || L > E || E > blockmoe::contract::kMaxExperts || E % kGroups != 0)
    TVM_FFI_THROW(ValueError) << "routing_logits: " << E << " experts, " << L
                              << " of them local; expected a multiple of " << kGroups << ", at most "
                              << blockmoe::contract::kMaxExperts;
  const DLDevice device = hidden_states.device();
  check(hidden_states, {"hidden_states", {T, H}, kE4m3}, device);
  check(routing_logits, {"routing_logits", {T, E}, kF32}, device);
  check(routing_bias, {"routing_bias", {E}, kBf16}, device);
  check(hidden_states_scale, {"hidden_states_scale", {H / kScaleBlock, T}, kF32}, device);
  check(gemm1_weights, {"gemm1_weights", {L, 2 * I, H}, kE4m3}, device);
  check(gemm1_weights_scale, {"gemm1_weights_scale", {L, 2 * I / kScaleBlock, H / kScaleBlock}, kF32}, device);
  check(gemm2_weights, {"gemm2_weights", {L, H, I}, kE4m3}, device);
  check(gemm2_weights_scale, {"gemm2_weights_scale", {L, H / kScaleBlock, I / kScaleBlock}, kF32}, device);
  check(output, {"output", {T, H}, kBf16}, device);
  if (T == 0) return;

  blockmoe::kernels::Request request;
  request.geometry = {H, I, static_cast<std::int32_t>(E), static_cast<std::int32_t>(L), kTopK, kGroups, kKeptGroups};
  request.max_tokens = T;
  request.device = describe(device.device_id);
  std::string why_not;
  if (!blockmoe::kernels::supports(request, &why_not)) TVM_FFI_THROW(RuntimeError) << "this device: " << why_not;

  blockmoe::contract::Weights weights;
  weights.routing_bias = routing_bias.data_ptr();
  weights.w13 = pointer<const std::uint8_t>(gemm1_weights);
  weights.w13_scale = pointer<const float>(gemm1_weights_scale);
  weights.w2 = pointer<const std::uint8_t>(gemm2_weights);
  weights.w2_scale = pointer<const float>(gemm2_weights_scale);
  weights.local_expert_offset = static_cast<std::int32_t>(local_expert_offset);
  weights.routed_scaling_factor = static_cast<float>(routed_scaling_factor);

  blockmoe::contract::Activations activations;
  activations.tokens = T;
  activations.routing_logits = routing_logits.data_ptr();
  activations.routing_logits_pitch = E;
  activations.hidden = pointer<const std::uint8_t>(hidden_states);
  activations.hidden_pitch = H;
  activations.hidden_scale = pointer<const float>(hidden_states_scale);
  activations.hidden_scale_pitch = T;
  activations.output = pointer<std::uint16_t>(output);
  activations.output_pitch = H;

  const CurrentDevice current(device.device_id);
  const blockmoe::kernels::Plan plan = blockmoe::kernels::make_plan(request);
  blockmoe::kernels::Bound bound;
  require_ok(blockmoe::kernels::bind(plan, weights, &bound));
  const std::int64_t bytes = static_cast<std::int64_t>(plan.workspace_bytes);
  // Released to the framework's allocator when this returns: it hands the memory out again in the stream's order.
  const tvm::ffi::Tensor workspace =
      tvm::ffi::Tensor::FromEnvAlloc(TVMFFIEnvTensorAlloc, tvm::ffi::Shape({bytes}), DLDataType{kDLUInt, 8, 1}, device);
  void* const stream = TVMFFIEnvGetStream(device.device_type, device.device_id);
  require_ok(blockmoe::kernels::launch(bound, activations, workspace.data_ptr(), stream));
}

}  // namespace

TVM_FFI_DLL_EXPORT_TYPED_FUNC(run, run);
