// memory.hpp: what a call needs and the caller did not bring.
#pragma once

#include <tvm/ffi/tvm_ffi.h>

#include "blockmoe/blockmoe.hpp"

namespace blockmoe::python {

/// Memory of `device` from the caller's framework, in its stream's order; on the CPU from the heap where the framework offers
/// none. Throws ValueError in the name of `argument` where there is no allocator.
tvm::ffi::Tensor allocate(const char* argument, tvm::ffi::ShapeView shape, DLDataType type, Device device);

/// Bytes that hold a plan's workspace wherever they begin: what `workspace` must have, since frameworks align by less.
std::size_t workspace_room(const WorkspaceNeed& need);

/// A call's workspace: in the caller's bytes, or in its own for the length of the call. On a GPU the framework's allocator gets
/// those back while the call may still be running, and hands them out again in the stream's order.
class CallWorkspace {
 public:
  /// Throws ValueError where the caller's tensor is not enough bytes, without gaps, on `device`.
  CallWorkspace(const tvm::ffi::Optional<tvm::ffi::Tensor>& given, const WorkspaceNeed& need, Device device);

  Workspace get() const { return workspace_; }

 private:
  tvm::ffi::Tensor owner_;
  Workspace workspace_;
};

}  // namespace blockmoe::python
