// objects.hpp: plans as objects that Python holds.
#pragma once

#include <tvm/ffi/tvm_ffi.h>

#include "blockmoe/blockmoe.hpp"

namespace blockmoe::python {

// NOLINTBEGIN(readability-identifier-naming): TVM-FFI's macros

class PlanObject : public tvm::ffi::Object {
 public:
  PlanObject(const Plan& made, Device where) : plan(made), device(where) {}
  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("blockmoe.Plan", PlanObject, tvm::ffi::Object);

  Plan plan;
  Device device;
};

class PlanRef : public tvm::ffi::ObjectRef {
 public:
  TVM_FFI_DEFINE_OBJECT_REF_METHODS_NOTNULLABLE(PlanRef, tvm::ffi::ObjectRef, PlanObject);
  explicit PlanRef(tvm::ffi::ObjectPtr<PlanObject> object) : tvm::ffi::ObjectRef(std::move(object)) {}
};

class BoundPlanObject : public tvm::ffi::Object {
 public:
  BoundPlanObject(const BoundPlan& made, WorkspaceNeed needed, Device where)
      : bound(made), need(needed), device(where) {}
  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("blockmoe.BoundPlan", BoundPlanObject, tvm::ffi::Object);

  BoundPlan bound;
  WorkspaceNeed need;
  Device device;
};

class BoundPlanRef : public tvm::ffi::ObjectRef {
 public:
  TVM_FFI_DEFINE_OBJECT_REF_METHODS_NOTNULLABLE(BoundPlanRef, tvm::ffi::ObjectRef, BoundPlanObject);
  explicit BoundPlanRef(tvm::ffi::ObjectPtr<BoundPlanObject> object) : tvm::ffi::ObjectRef(std::move(object)) {}
};

// NOLINTEND(readability-identifier-naming)

}  // namespace blockmoe::python
