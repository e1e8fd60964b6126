// call.cpp: one call of a group: BoundEpGroup::run.
//
// A call, way `gather`, all on the caller's stream:
//
//   route own tokens | pack records | all-gather | unpack | the operator on all N S tokens | parts to their owners | sum
//
// Way `exchange`, S the caller's stream and C the group's own:
//
//   S:  route | pack | the operator on half of the own tokens | ... on piece 0 | ... on piece 1  | ... the other half |  sum
//   C:               | piece 0 out, piece 1 out ...                           | parts of 0 back | parts of 1 back    |
//
// so that all messages travel beside products. The events between the two streams are the group's; a capture of S takes C in and
// joins it again.
#include <cuda_runtime_api.h>

#include <array>
#include <cstdint>
#include <string>
#include <utility>

#include "api/cuda_device.hpp"
#include "api/guard.hpp"
#include "api/refusal.hpp"
#include "api/return_if_error.hpp"
#include "api/validate.hpp"
#include "blockmoe/expert_parallel.hpp"
#include "ep/access.hpp"
#include "ep/buffers.hpp"
#include "ep/nccl.hpp"
#include "ep/state.hpp"
#include "expert_parallel/records.h"

namespace blockmoe {

BoundEpGroup::BoundEpGroup(std::shared_ptr<const State> state) : state_(std::move(state)) {}

Status BoundEpGroup::run(const Activations& activations, const Tensor& output, const Workspace& workspace,
                         Stream stream, std::int64_t most_tokens) const {
  return ep::Access::run_stages(*this, activations, output, workspace, stream, most_tokens, ep::kAllStages);
}

namespace ep {
namespace {

namespace records = kernels::expert_parallel;
using api::join;
using api::refuse;

// One call on its way through the stages.
class Call {
 public:
  Call(const EpGroup::State& group, const BoundPlan& bound, const BoundPlan& beside, const Activations& given,
       const contract::Activations& checked, char* workspace, Stream stream, std::int64_t most_tokens,
       std::uint32_t stages)
      : g_(group),
        bound_(bound),
        beside_(beside),
        given_(given),
        call_(checked),
        base_(workspace),
        stream_(static_cast<cudaStream_t>(stream)),
        way_(group.way(most_tokens)),
        pieces_(way_ == EpWay::exchange ? group.pieces(most_tokens) : 1),
        slots_(round_up(most_tokens, pieces_)),
        stages_(stages),
        comm_(way_ == EpWay::exchange && group.options.serial == 0 ? group.lanes.comm : stream_) {}

  Status run() const {
    if (wanted(kRoute)) BLOCKMOE_RETURN_IF_ERROR(route());
    BLOCKMOE_RETURN_IF_ERROR(way_ == EpWay::exchange ? exchange() : gather());
    return wanted(kSum) ? sum() : Status();
  }

 private:
  bool wanted(Stage stage) const { return (stages_ & stage) != 0; }
  template <typename T>
  T* at(std::size_t offset) const {
    return reinterpret_cast<T*>(base_ + offset);
  }
  char* record_at(std::size_t offset, std::int64_t number) const { return base_ + offset + bytes_of_records(number); }
  std::size_t bytes_of_records(std::int64_t count) const { return static_cast<std::size_t>(count * g_.layout.bytes); }
  float* part(std::size_t offset, std::int64_t row) const { return at<float>(offset) + row * hidden(); }
  std::int64_t hidden() const { return g_.layer.geometry.hidden; }
  std::int64_t piece_slots() const { return slots_ / pieces_; }

  // Own tokens -> records.
  Status route() const {
    const contract::RoutedPicks picks{at<std::int32_t>(g_.offsets.ids), at<float>(g_.offsets.weights)};
    const std::int64_t tokens = call_.tokens;
    if (tokens > 0) {
      const std::int64_t top_k = g_.layer.geometry.top_k;
      BLOCKMOE_RETURN_IF_ERROR(bound_.route(
          given_.routing_logits, Tensor::contiguous(picks.experts, DType::int32, g_.device(), {tokens, top_k}),
          Tensor::contiguous(picks.weights, DType::float32, g_.device(), {tokens, top_k}), stream_));
    }
    return kernel_status(records::launch_pack(g_.layout, call_, picks, slots_, at<char>(g_.offsets.records),
                                              g_.can_start_early() && tokens > 0, stream_));
  }

  Status gather() const {
    if (wanted(kExchange) && g_.ranks > 1) {
      BLOCKMOE_RETURN_IF_ERROR(
          g_.nccl_status(g_.nccl->all_gather(at<char>(g_.offsets.records), at<char>(g_.offsets.received),
                                             bytes_of_records(slots_), nccl::DataType::uint8, g_.comm, stream_),
                         "ncclAllGather"));
    }
    OperatorCall all = all_of_gather(g_.ranks, slots_);
    all.own = g_.ranks == 1;
    if (wanted(kProducts)) BLOCKMOE_RETURN_IF_ERROR(compute(all, bound_));
    if (!wanted(kReturn) || g_.ranks == 1) return {};
    if (sums_on_the_way()) {
      return g_.nccl_status(g_.nccl->reduce_scatter(at<float>(g_.offsets.parts), at<float>(g_.offsets.back),
                                                    static_cast<std::size_t>(slots_ * hidden()),
                                                    nccl::DataType::float32, nccl::Operation::sum, g_.comm, stream_),
                            "ncclReduceScatter");
    }
    return return_parts(0, [&](std::int32_t peer) { return part(g_.offsets.parts, peer * slots_); });
  }

  Status exchange() const {
    BLOCKMOE_RETURN_IF_ERROR(order(stream_, g_.lanes.packed, comm_));
    for (std::int32_t p = 0; p < pieces_; ++p) {
      if (wanted(kExchange)) BLOCKMOE_RETURN_IF_ERROR(send_tokens(p));
      if (comm_ != stream_) BLOCKMOE_RETURN_IF_ERROR(record(arrived(p), comm_));
    }
    BLOCKMOE_RETURN_IF_ERROR(compute_own(0));
    for (std::int32_t p = 0; p < pieces_; ++p) {
      const OperatorCall piece = piece_of_exchange(g_.ranks, g_.rank, slots_, pieces_, p);
      if (comm_ != stream_) BLOCKMOE_RETURN_IF_ERROR(wait_for(arrived(p), stream_));
      if (wanted(kProducts)) BLOCKMOE_RETURN_IF_ERROR(compute(piece, beside()));
      BLOCKMOE_RETURN_IF_ERROR(order(stream_, g_.lanes.done[static_cast<std::size_t>(p)], comm_));
      if (!wanted(kReturn)) continue;
      BLOCKMOE_RETURN_IF_ERROR(return_parts(p, [&](std::int32_t peer) {
        return part(g_.offsets.parts, piece.first_record + place_of(peer) * piece_slots());
      }));
    }
    BLOCKMOE_RETURN_IF_ERROR(compute_own(1));
    return order(comm_, g_.lanes.returned, stream_);
  }

  Status compute_own(std::int32_t half) const {
    const OperatorCall own = own_of_exchange(g_.ranks, g_.rank, slots_, half);
    return wanted(kProducts) && own.run.slots > 0 ? compute(own, beside()) : Status();
  }

  // What runs while messages travel.
  const BoundPlan& beside() const { return comm_ != stream_ ? beside_ : bound_; }

  cudaEvent_t arrived(std::int32_t piece) const { return g_.lanes.arrived[static_cast<std::size_t>(piece)]; }
  static Status record(cudaEvent_t event, cudaStream_t stream) {
    return cuda_status(cudaEventRecord(event, stream), "cudaEventRecord");
  }
  static Status wait_for(cudaEvent_t event, cudaStream_t stream) {
    return cuda_status(cudaStreamWaitEvent(stream, event, 0), "cudaStreamWaitEvent");
  }
  // What is on `first` now ends before what comes on `then`.
  static Status order(cudaStream_t first, cudaEvent_t event, cudaStream_t then) {
    if (first == then) return {};
    BLOCKMOE_RETURN_IF_ERROR(record(event, first));
    return wait_for(event, then);
  }

  // Among the other ranks.
  std::int64_t place_of(std::int32_t peer) const { return peer < g_.rank ? peer : peer - 1; }

  template <typename Each>
  Status with_each_peer(const Each& each) const {
    return g_.in_group([&]() -> Status {
      for (std::int32_t peer = 0; peer < g_.ranks; ++peer) {
        if (peer != g_.rank) BLOCKMOE_RETURN_IF_ERROR(each(peer));
      }
      return {};
    });
  }

  Status send_tokens(std::int32_t piece) const {
    const std::int64_t count = piece_slots();
    const char* const from = record_at(g_.offsets.records, piece * count);
    return with_each_peer([&](std::int32_t peer) -> Status {
      char* const to = record_at(g_.offsets.received, (piece * (g_.ranks - 1) + place_of(peer)) * count);
      BLOCKMOE_RETURN_IF_ERROR(g_.nccl_status(
          g_.nccl->send(from, bytes_of_records(count), nccl::DataType::uint8, peer, g_.comm, comm_), "ncclSend"));
      return g_.nccl_status(g_.nccl->recv(to, bytes_of_records(count), nccl::DataType::uint8, peer, g_.comm, comm_),
                            "ncclRecv");
    });
  }

  // made_for(peer): the first row of what was made of that rank's tokens of the piece.
  template <typename MadeFor>
  Status return_parts(std::int32_t piece, const MadeFor& made_for) const {
    const std::int64_t count = piece_slots();
    const auto values = static_cast<std::size_t>(count * hidden());
    return with_each_peer([&](std::int32_t peer) -> Status {
      float* const to = part(g_.offsets.back, records::part_row(piece * count, peer, g_.rank, g_.ranks, count));
      BLOCKMOE_RETURN_IF_ERROR(g_.nccl_status(
          g_.nccl->send(made_for(peer), values, nccl::DataType::float32, peer, g_.comm, comm_), "ncclSend"));
      return g_.nccl_status(g_.nccl->recv(to, values, nccl::DataType::float32, peer, g_.comm, comm_), "ncclRecv");
    });
  }

  // Of two parts there is one sum, in whichever order NCCL adds them.
  bool sums_on_the_way() const { return way_ == EpWay::gather && g_.ranks == 2; }

  // Of a gather's unpack and sum: what is ahead of them on the stream is NCCL's kernel, and their launch beside its end saves 1.5 to
  // 2.5 us a call at T <= 16 on two NVIDIA H200. In an exchange it may be an event.
  bool follows_message() const { return way_ == EpWay::gather && g_.ranks > 1 && g_.can_start_early(); }

  // Records -> parts.
  Status compute(const OperatorCall& call, const BoundPlan& bound) const {
    const std::int64_t count = call.run.records();
    const char* const from = call.own ? record_at(g_.offsets.records, call.run.first_token)
                                      : record_at(g_.offsets.received, call.first_record);
    const contract::Geometry& layer = g_.layer.geometry;
    auto* const scales = at<float>(g_.offsets.scales) + call.first_record * layer.hidden_blocks();
    auto* const ids = at<std::int32_t>(g_.offsets.local_ids) + call.first_record * layer.top_k;
    BLOCKMOE_RETURN_IF_ERROR(kernel_status(records::launch_unpack(
        g_.layout, call.run, g_.table, g_.rank, g_.local_offset, from, scales, ids, follows_message(), stream_)));
    PreroutedActivations activations;
    activations.topk_ids = Tensor::contiguous(ids, DType::int32, g_.device(), {count, layer.top_k});
    activations.topk_weights = Tensor::pitched(from + g_.layout.weights_at, DType::float32, g_.device(), count,
                                               layer.top_k, g_.layout.bytes / 4);
    activations.hidden_states =
        Tensor::pitched(from, DType::float8_e4m3, g_.device(), count, layer.hidden, g_.layout.bytes);
    activations.hidden_states_scale =
        Tensor::contiguous(scales, DType::float32, g_.device(), {layer.hidden_blocks(), count});
    const Tensor output = Tensor::contiguous(part(g_.offsets.parts, call.first_record), DType::float32, g_.device(),
                                             {count, layer.hidden});
    return bound.run_prerouted(activations, output, {base_, g_.plan_bytes()}, stream_);
  }

  Status sum() const {
    const std::int64_t own = way_ == EpWay::exchange ? (g_.ranks - 1) * slots_ : g_.rank * slots_;
    records::SumParams p;
    p.tokens = call_.tokens;
    p.hidden = hidden();
    p.piece_slots = piece_slots();
    p.me = g_.rank;
    p.ranks = g_.ranks;
    p.own = part(g_.offsets.parts, own);
    p.back = at<float>(g_.offsets.back);
    if (sums_on_the_way()) {
      p.me = 0;
      p.ranks = 1;
      p.own = p.back;
    }
    p.output = call_.output;
    p.output_type = call_.output_type;
    p.output_pitch = call_.output_pitch;
    return kernel_status(records::launch_sum(p, follows_message(), stream_));
  }

  const EpGroup::State& g_;
  const BoundPlan& bound_;
  const BoundPlan& beside_;
  const Activations& given_;
  const contract::Activations& call_;
  char* base_;
  cudaStream_t stream_;
  EpWay way_;
  std::int32_t pieces_;
  std::int64_t slots_;
  std::uint32_t stages_;
  cudaStream_t comm_;
};

Status check_memory(const contract::Activations& call, const void* workspace, std::int32_t index) {
  const std::array<std::pair<const char*, const void*>, 4> named = {{{"hidden_states", call.hidden},
                                                                     {"hidden_states_scale", call.hidden_scale},
                                                                     {"output", call.output},
                                                                     {"workspace", workspace}}};
  for (const auto& [name, pointer] : named) {
    if (call.tokens == 0 && pointer != workspace) continue;
    const std::string found = api::not_memory_of(pointer, index);
    if (!found.empty()) return refuse(name, found, join("memory of cuda:", index));
  }
  return {};
}

// validate_call() looks at no workspace where there are no tokens; a rank without any has the others' to compute.
Status check_workspace(const Workspace& workspace, const WorkspaceNeed& need) {
  if (workspace.data == nullptr) return refuse("workspace", "null", join(need.bytes, " bytes"));
  if (workspace.bytes < need.bytes)
    return refuse("workspace", join(workspace.bytes, " bytes"), join(need.bytes, " or more"));
  return {};
}

}  // namespace

Status Access::run_stages(const BoundEpGroup& bound, const Activations& activations, const Tensor& output,
                          const Workspace& workspace, Stream stream, std::int64_t most_tokens, std::uint32_t stages) {
  return api::guarded([&]() -> Status {
    const BoundEpGroup::State& state = *bound.state_;
    const EpGroup::State& g = *state.group;
    if (g.aborted) return {StatusCode::device_error, "EpGroup: its communicator was aborted"};
    BLOCKMOE_RETURN_IF_ERROR(check_range("most_tokens", most_tokens, 0, g.layer.max_tokens));
    const std::int64_t most = most_tokens == 0 ? g.layer.max_tokens : most_tokens;
    contract::Activations call;
    BLOCKMOE_RETURN_IF_ERROR(api::validate_call(activations, output, workspace, g.layer, g.need, state.weights, &call));
    if (call.tokens > most)
      return refuse("hidden_states", join("T = ", call.tokens), join("0 to ", most), "most_tokens");
    BLOCKMOE_RETURN_IF_ERROR(check_workspace(workspace, g.need));
    BLOCKMOE_RETURN_IF_ERROR(check_memory(call, workspace.data, g.device_index()));
    const api::CurrentDevice current(g.device_index());
    BLOCKMOE_RETURN_IF_ERROR(current.status());
    g.post();
    return Call(g, *state.bound, *state.beside, activations, call, static_cast<char*>(workspace.data), stream, most,
                stages)
        .run();
  });
}

}  // namespace ep
}  // namespace blockmoe
