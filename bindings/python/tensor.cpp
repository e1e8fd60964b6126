#include "tensor.hpp"

#include <algorithm>
#include <string>

namespace blockmoe::python {
namespace {

using tvm::ffi::TensorView;

DType dtype_of(const char* argument, DLDataType type) {
  const auto is = [&](DLDataTypeCode code, int bits) {
    return type.code == static_cast<std::uint8_t>(code) && type.bits == bits && type.lanes == 1;
  };
  if (is(kDLFloat, 32)) return DType::float32;
  if (is(kDLBfloat, 16) || is(kDLUInt, 16)) return DType::bfloat16;
  if (is(kDLInt, 32)) return DType::int32;
  if (is(kDLFloat8_e4m3fn, 8) || is(kDLUInt, 8)) return DType::float8_e4m3;
  refuse(argument, "type " + text_of(type), "float32, bfloat16 (or uint16), float8_e4m3fn (or uint8) or int32");
}

}  // namespace

void refuse(const std::string& argument, const std::string& found, const std::string& expected) {
  TVM_FFI_THROW(ValueError) << argument << ": " << found << ", expected " << expected;
  TVM_FFI_UNREACHABLE();
}

void require_ok(const Status& status) {
  switch (status.code()) {
    case StatusCode::ok:
      return;
    case StatusCode::invalid_argument:
    case StatusCode::unsupported:
      TVM_FFI_THROW(ValueError) << status.message();
    case StatusCode::device_error:
      TVM_FFI_THROW(RuntimeError) << status.message();
    case StatusCode::out_of_memory:
      TVM_FFI_THROW(MemoryError) << status.message();
  }
}

std::string text_of(DLDataType type) {
  const auto sized = [&](const char* name) { return name + std::to_string(type.bits); };
  if (type.lanes == 1) {
    switch (type.code) {
      case kDLInt:
        return sized("int");
      case kDLUInt:
        return sized("uint");
      case kDLFloat:
        return sized("float");
      case kDLBfloat:
        return sized("bfloat");
      case kDLComplex:
        return sized("complex");
      case kDLBool:
        return "bool";
      default:
        break;
    }
  }
  return "number " + std::to_string(type.code) + " of DLPack, " + std::to_string(type.bits) + " bits, " +
         std::to_string(type.lanes) + " lanes";
}

std::string text_of(tvm::ffi::ShapeView shape) {
  std::string text = "[";
  for (const std::int64_t size : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(size);
  return text + "]";
}

Device device_of(const char* argument, DLDevice device) {
  switch (device.device_type) {
    case kDLCPU:
    case kDLCUDAHost:  // pinned memory
      return {DeviceType::cpu, 0};
    case kDLCUDA:
    case kDLCUDAManaged:
      return {DeviceType::cuda, device.device_id};
    default:
      refuse(argument, "on a device of DLPack's type " + std::to_string(device.device_type), "the CPU (1) or CUDA (2)");
  }
}

DLDevice dlpack_of(Device device) {
  return {device.type == DeviceType::cpu ? kDLCPU : kDLCUDA, device.index};
}

Tensor view_of(const char* argument, const TensorView& tensor) {
  Tensor view;
  view.data = static_cast<char*>(tensor.data_ptr()) + tensor.byte_offset();
  view.dtype = dtype_of(argument, tensor.dtype());
  view.device = device_of(argument, tensor.device());
  view.rank = tensor.ndim();
  const tvm::ffi::ShapeView shape = tensor.shape();
  const tvm::ffi::ShapeView strides = tensor.strides();
  // A rank above kMaxRank is refused by the call; its sizes are not looked at.
  const std::size_t rank = std::min<std::size_t>(shape.size(), kMaxRank);
  std::copy_n(shape.begin(), rank, view.shape.begin());
  std::copy_n(strides.begin(), rank, view.stride.begin());
  return view;
}

Tensor view_of(const char* argument, const tvm::ffi::Optional<tvm::ffi::Tensor>& tensor) {
  if (!tensor.has_value()) return {};
  const tvm::ffi::Tensor present = tensor.value();
  return view_of(argument, TensorView(present));
}

}  // namespace blockmoe::python
