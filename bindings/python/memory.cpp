#include "memory.hpp"

#include <tvm/ffi/extra/c_env_api.h>

#include <memory>
#include <new>
#include <string>

#include "tensor.hpp"

namespace blockmoe::python {
namespace {

using tvm::ffi::ShapeView;
using tvm::ffi::TensorView;

constexpr DLDataType kByte{kDLUInt, 8, 1};
constexpr std::align_val_t kVector{64};  // more than the library asks of a tensor

struct Heap {
  // NOLINTBEGIN(readability-identifier-naming, readability-non-const-parameter): TVM-FFI calls them so
  static void AllocData(DLTensor* tensor) { tensor->data = ::operator new(tvm::ffi::GetDataSize(*tensor), kVector); }
  static void FreeData(DLTensor* tensor) { ::operator delete(tensor->data, kVector); }
  // NOLINTEND(readability-identifier-naming, readability-non-const-parameter)
};

void check_workspace(const TensorView& tensor, std::size_t room, Device device) {
  const DLDataType type = tensor.dtype();
  if (type.code != kDLUInt || type.bits != 8 || type.lanes != 1) {
    refuse("workspace", "type " + text_of(type), "uint8");
  }
  if (!tensor.IsContiguous()) refuse("workspace", "strided", "bytes without gaps");
  if (device_of("workspace", tensor.device()) != device) refuse("workspace", "on another device", "the plan's device");
  if (static_cast<std::size_t>(tensor.numel()) < room) {
    refuse("workspace", std::to_string(tensor.numel()) + " bytes", std::to_string(room) + " or more");
  }
}

}  // namespace

tvm::ffi::Tensor allocate(const char* argument, ShapeView shape, DLDataType type, Device device) {
  if (TVMFFIEnvGetDLPackManagedTensorAllocator() != nullptr) {
    return tvm::ffi::Tensor::FromEnvAlloc(TVMFFIEnvTensorAlloc, shape, type, dlpack_of(device));
  }
  if (device.type == DeviceType::cpu) return tvm::ffi::Tensor::FromNDAlloc(Heap(), shape, type, dlpack_of(device));
  refuse(argument, "absent", "a tensor, since the framework of the arguments lends TVM-FFI no allocator");
}

std::size_t workspace_room(const WorkspaceNeed& need) {
  return need.bytes == 0 ? 0 : need.bytes + need.alignment - 1;
}

CallWorkspace::CallWorkspace(const tvm::ffi::Optional<tvm::ffi::Tensor>& given, const WorkspaceNeed& need,
                             Device device) {
  std::size_t room = workspace_room(need);
  if (given.has_value()) {
    owner_ = given.value();
    check_workspace(TensorView(owner_), room, device);
  } else if (room > 0) {
    owner_ = allocate("workspace", tvm::ffi::Shape({static_cast<std::int64_t>(room)}), kByte, device);
  }
  if (room == 0) return;
  void* begin = static_cast<char*>(owner_.data_ptr()) + owner_.byte_offset();
  workspace_ = {std::align(need.alignment, need.bytes, begin, room), need.bytes};
}

}  // namespace blockmoe::python
