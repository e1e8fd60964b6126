// tensor.hpp: between DLPack's descriptions and the library's.
#pragma once

#include <tvm/ffi/tvm_ffi.h>

#include "blockmoe/blockmoe.hpp"

namespace blockmoe::python {

/// Throws what a Status says: ValueError (invalid_argument, unsupported), RuntimeError (device_error), MemoryError.
void require_ok(const Status& status);

/// Throws ValueError "<argument>: <found>, expected <expected>".
[[noreturn]] void refuse(const std::string& argument, const std::string& found, const std::string& expected);

/// The same memory. uint8 stands for e4m3 and uint16 for bf16, since not every framework has those types. Throws ValueError
/// for a type or a device that the library has no name for; everything else about a tensor is the library's to judge.
Tensor view_of(const char* argument, const tvm::ffi::TensorView& tensor);

/// An absent tensor where there is none.
Tensor view_of(const char* argument, const tvm::ffi::Optional<tvm::ffi::Tensor>& tensor);

/// "float32", "complex64"; a type by its numbers where it has no name here
std::string text_of(DLDataType type);
/// "[3, 256]"
std::string text_of(tvm::ffi::ShapeView shape);

Device device_of(const char* argument, DLDevice device);
DLDevice dlpack_of(Device device);

}  // namespace blockmoe::python
