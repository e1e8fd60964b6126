// expert_parallel.cpp: blockmoe::EpGroup for python/blockmoe/_expert_parallel_cuda.py. As in module.cpp, nothing is decided here.
#include <tvm/ffi/tvm_ffi.h>

#include <cstdint>
#include <exception>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "blockmoe/expert_parallel.hpp"
#include "call.hpp"
#include "memory.hpp"
#include "tensor.hpp"

namespace blockmoe::python {
namespace {

using tvm::ffi::Optional;
using tvm::ffi::TensorView;

// EpBoard on two functions of Python: post(calls) and read(rank) -> calls.
struct Board {
  tvm::ffi::Function post_calls;
  tvm::ffi::Function read_calls;

  static void post(void* context, std::int32_t /*rank*/, std::int64_t calls) noexcept {
    try {
      static_cast<const Board*>(context)->post_calls(calls);
    } catch (const std::exception&) {
      // The store is gone, and with it the rank that held it: the communicator will tell.
      return;
    }
  }
  static std::int64_t read(void* context, std::int32_t rank) noexcept {
    try {
      return static_cast<const Board*>(context)->read_calls(rank).cast<std::int64_t>();
    } catch (const std::exception&) {
      return std::numeric_limits<std::int64_t>::max();  // nothing is known of it: not behind
    }
  }
};

// NOLINTBEGIN(readability-identifier-naming): TVM-FFI's macros

class EpGroupObject : public tvm::ffi::Object {
 public:
  EpGroupObject(std::shared_ptr<const Board> told, const EpGroup& made, Device where)
      : board(std::move(told)), group(made), device(where) {}
  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("blockmoe.EpGroup", EpGroupObject, tvm::ffi::Object);

  std::shared_ptr<const Board> board;  // which the group points at
  EpGroup group;
  Device device;
};

class EpGroupRef : public tvm::ffi::ObjectRef {
 public:
  TVM_FFI_DEFINE_OBJECT_REF_METHODS_NOTNULLABLE(EpGroupRef, tvm::ffi::ObjectRef, EpGroupObject);
  explicit EpGroupRef(tvm::ffi::ObjectPtr<EpGroupObject> object) : tvm::ffi::ObjectRef(std::move(object)) {}
};

class BoundEpGroupObject : public tvm::ffi::Object {
 public:
  BoundEpGroupObject(EpGroupRef of, const BoundEpGroup& made) : group(std::move(of)), bound(made) {}
  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("blockmoe.BoundEpGroup", BoundEpGroupObject, tvm::ffi::Object);

  EpGroupRef group;
  BoundEpGroup bound;
};

class BoundEpGroupRef : public tvm::ffi::ObjectRef {
 public:
  TVM_FFI_DEFINE_OBJECT_REF_METHODS_NOTNULLABLE(BoundEpGroupRef, tvm::ffi::ObjectRef, BoundEpGroupObject);
  explicit BoundEpGroupRef(tvm::ffi::ObjectPtr<BoundEpGroupObject> object) : tvm::ffi::ObjectRef(std::move(object)) {}
};

// NOLINTEND(readability-identifier-naming)

// A number as a pointer: Python has none.
void* pointer_of(std::int64_t number) {
  // NOLINTNEXTLINE(performance-no-int-to-ptr)
  return reinterpret_cast<void*>(static_cast<std::uintptr_t>(number));
}

// `communicator`: an ncclComm_t as a number. The geometry comes as make_plan() takes it.
EpGroupRef make_ep_group(std::int64_t communicator, std::int64_t max_tokens, std::int64_t experts, std::int64_t hidden,
                         std::int64_t intermediate, std::int64_t local_experts, std::int64_t top_k,
                         std::int64_t n_group, std::int64_t topk_group, const std::string& device, std::int64_t backend,
                         bool gate_first, std::int64_t max_sms, std::int64_t max_local_picks, bool batch_invariant,
                         std::int64_t way, std::int64_t timeout_ms,
                         const Optional<tvm::ffi::Array<std::int64_t>>& expert_map,
                         const tvm::ffi::Function& post_calls, const tvm::ffi::Function& read_calls) {
  const DeviceInfo info = device_named(device);
  const Geometry geometry = geometry_of(experts, hidden, intermediate, local_experts, top_k, n_group, topk_group);
  Options options;
  options.backend = static_cast<Backend>(backend);
  options.gate_first = gate_first;
  options.max_sms = to_int32("max_sms", max_sms);
  options.pruning.max_local_picks = to_int32("max_local_picks", max_local_picks);
  options.batch_invariant = batch_invariant;
  EpOptions ep_options;
  ep_options.way = static_cast<EpWay>(way);
  ep_options.timeout_ms = to_int32("timeout", timeout_ms);
  std::vector<std::int32_t> map;
  if (expert_map.has_value()) {
    for (const std::int64_t expert : expert_map.value()) map.push_back(to_int32("expert_map", expert));
    ep_options.expert_map = map.data();
  }
  auto board = std::make_shared<Board>(Board{post_calls, read_calls});
  ep_options.board = {board.get(), Board::post, Board::read};
  const Result<EpGroup> group =
      EpGroup::create(geometry, max_tokens, info, pointer_of(communicator), ep_options, options);
  require_ok(group.status());
  return EpGroupRef(tvm::ffi::make_object<EpGroupObject>(std::move(board), group.value(), info.device));
}

std::int64_t ep_group_workspace_bytes(const EpGroupRef& group) {
  return static_cast<std::int64_t>(workspace_room(group->group.workspace()));
}

std::string ep_group_explain(const EpGroupRef& group) {
  return group->group.explain();
}

std::int64_t ep_group_way(const EpGroupRef& group, std::int64_t most_tokens) {
  return static_cast<std::int64_t>(group->group.way(most_tokens));
}

void ep_group_check(const EpGroupRef& group, std::int64_t stream, std::int64_t timeout_ms) {
  require_ok(group->group.check(pointer_of(stream), to_int32("timeout", timeout_ms)));
}

BoundEpGroupRef ep_group_bind(const EpGroupRef& group, const OptionalTensor& routing_bias, TensorView gemm1_weights,
                              TensorView gemm1_weights_scale, TensorView gemm2_weights, TensorView gemm2_weights_scale,
                              std::int64_t local_expert_offset, double routed_scaling_factor) {
  const Weights weights = weights_of(routing_bias, gemm1_weights, gemm1_weights_scale, gemm2_weights,
                                     gemm2_weights_scale, local_expert_offset, routed_scaling_factor);
  const Result<BoundEpGroup> bound = group->group.bind(weights);
  require_ok(bound.status());
  return BoundEpGroupRef(tvm::ffi::make_object<BoundEpGroupObject>(group, bound.value()));
}

tvm::ffi::Tensor bound_ep_group_run(const BoundEpGroupRef& bound, TensorView routing_logits, TensorView hidden_states,
                                    TensorView hidden_states_scale, const OptionalTensor& given,
                                    const OptionalTensor& given_workspace, std::int64_t most_tokens) {
  const EpGroupObject& group = *bound->group.get();
  const Activations activations = activations_of(routing_logits, hidden_states, hidden_states_scale);
  const tvm::ffi::Tensor output = output_for(given, hidden_states, group.device);
  const CallWorkspace workspace(given_workspace, group.group.workspace(), group.device);
  require_ok(bound->bound.run(activations, view_of("output", TensorView(output)), workspace.get(),
                              stream_of(group.device), most_tokens));
  return output;
}

}  // namespace
}  // namespace blockmoe::python

// NOLINTNEXTLINE(readability-identifier-naming): its macro
TVM_FFI_STATIC_INIT_BLOCK() {
  blockmoe::python::EpGroupObject::_GetOrAllocRuntimeTypeIndex();
  blockmoe::python::BoundEpGroupObject::_GetOrAllocRuntimeTypeIndex();
}

TVM_FFI_DLL_EXPORT_TYPED_FUNC(make_ep_group, blockmoe::python::make_ep_group);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(ep_group_workspace_bytes, blockmoe::python::ep_group_workspace_bytes);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(ep_group_explain, blockmoe::python::ep_group_explain);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(ep_group_way, blockmoe::python::ep_group_way);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(ep_group_check, blockmoe::python::ep_group_check);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(ep_group_bind, blockmoe::python::ep_group_bind);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(bound_ep_group_run, blockmoe::python::bound_ep_group_run);
