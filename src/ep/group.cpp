// group.cpp: EpGroup on NCCL: how its ranks come to one, and what it tells of itself. A call: call.cpp.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "api/cuda_device.hpp"
#include "api/guard.hpp"
#include "api/refusal.hpp"
#include "api/return_if_error.hpp"
#include "api/validate.hpp"
#include "blockmoe/expert_parallel.hpp"
#include "ep/buffers.hpp"
#include "ep/cost_model.hpp"
#include "ep/expert_map.hpp"
#include "ep/nccl.hpp"
#include "ep/setup.hpp"
#include "ep/state.hpp"
#include "expert_parallel/records.h"

namespace blockmoe {
namespace ep {
namespace {

using api::join;
using api::refuse;

constexpr std::int32_t kTimeoutMs = 30000;
constexpr std::int64_t kMostTokens = 1 << 24;

// Of all ranks, once every one has come.
Status wait_for_ranks(const EpGroup::State& g, Clock::time_point until) {
  if (g.options.board.read == nullptr) return {};
  while (!who_is_behind(g.options.board, g.ranks, 1).empty()) {
    if (Clock::now() >= until) {
      return {StatusCode::device_error, join("EpGroup::create: not done after ", g.options.timeout_ms, " ms; ",
                                             who_is_behind(g.options.board, g.ranks, 1))};
    }
    std::this_thread::sleep_for(kPoll);
  }
  return {};
}

// What every rank says of itself, agreed on.
Status describe_ranks(const EpGroup::State& g, std::vector<Description>* of_rank) {
  const auto until = Clock::now() + std::chrono::milliseconds(g.options.timeout_ms);
  g.post();
  BLOCKMOE_RETURN_IF_ERROR(wait_for_ranks(g, until));

  const auto fields = agreed_fields(g.layer, g.options);
  Description mine;
  for (std::size_t i = 0; i < fields.size(); ++i) mine.agreed[i] = fields[i].value;
  const std::int32_t local = g.layer.geometry.local_experts;
  mine.local_experts = local;
  const std::vector<std::int32_t> consecutive = consecutive_experts(g.rank, local);
  const std::int32_t* const experts = g.options.expert_map == nullptr ? consecutive.data() : g.options.expert_map;
  std::copy_n(experts, local, mine.experts.begin());

  constexpr std::size_t kBytes = sizeof(Description);
  const Result<DeviceMemory> memory = allocate(kBytes * static_cast<std::size_t>(g.ranks + 1));
  BLOCKMOE_RETURN_IF_ERROR(memory.status());
  char* const all = static_cast<char*>(memory.value().get());
  char* const own = all + kBytes * static_cast<std::size_t>(g.ranks);
  BLOCKMOE_RETURN_IF_ERROR(cuda_status(cudaMemcpy(own, &mine, kBytes, cudaMemcpyHostToDevice), "cudaMemcpy"));
  BLOCKMOE_RETURN_IF_ERROR(g.in_group([&] {
    return g.nccl_status(g.nccl->all_gather(own, all, kBytes, nccl::DataType::uint8, g.comm, g.lanes.comm),
                         "ncclAllGather");
  }));
  BLOCKMOE_RETURN_IF_ERROR(g.await_stream(g.lanes.comm, until, 1, "EpGroup::create"));
  of_rank->resize(static_cast<std::size_t>(g.ranks));
  BLOCKMOE_RETURN_IF_ERROR(
      cuda_status(cudaMemcpy(of_rank->data(), all, kBytes * static_cast<std::size_t>(g.ranks), cudaMemcpyDeviceToHost),
                  "cudaMemcpy"));
  return check_agreement(*of_rank, fields);
}

Status read_options(const EpOptions& given, EpOptions* options) {
  BLOCKMOE_RETURN_IF_ERROR(api::read_struct("ep_options", given, options));
  BLOCKMOE_RETURN_IF_ERROR(check_range("ep_options.way", static_cast<std::int64_t>(options->way), 0, 2));
  BLOCKMOE_RETURN_IF_ERROR(check_range("ep_options.pieces", options->pieces, 0, kMostPieces));
  BLOCKMOE_RETURN_IF_ERROR(check_range("ep_options.comm_sms", options->comm_sms, 0, 1024));
  BLOCKMOE_RETURN_IF_ERROR(check_range("ep_options.serial", options->serial, 0, 1));
  BLOCKMOE_RETURN_IF_ERROR(check_range("ep_options.timeout_ms", options->timeout_ms, 0, 1 << 30));
  if ((options->board.post == nullptr) != (options->board.read == nullptr)) {
    return refuse("ep_options.board", options->board.post == nullptr ? "no post" : "no read", "both or neither");
  }
  if (options->timeout_ms == 0) options->timeout_ms = kTimeoutMs;
  return {};
}

// A rank is told its own picks' numbers: of what the others weigh it knows nothing.
Status check_pruning(const Pruning& pruning) {
  const float share = pruning.min_weight_share;
  if (share == 0.0F) return {};
  return refuse("options.pruning.min_weight_share", api::text_of(share), "0",
                "a share is of all of a token's picks, and a rank of a group knows its own alone");
}

Status read_comm(EpGroup::State* g, void* nccl_comm) {
  if (nccl_comm == nullptr) return refuse("nccl_comm", "null", "an ncclComm_t");
  const Result<const nccl::Functions*> functions = nccl::load();
  BLOCKMOE_RETURN_IF_ERROR(functions.status());
  g->nccl = functions.value();
  g->comm = static_cast<nccl::Comm>(nccl_comm);
  int device = -1;
  BLOCKMOE_RETURN_IF_ERROR(g->nccl_status(g->nccl->comm_count(g->comm, &g->ranks), "ncclCommCount"));
  BLOCKMOE_RETURN_IF_ERROR(g->nccl_status(g->nccl->comm_user_rank(g->comm, &g->rank), "ncclCommUserRank"));
  BLOCKMOE_RETURN_IF_ERROR(g->nccl_status(g->nccl->comm_cu_device(g->comm, &device), "ncclCommCuDevice"));
  if (device == g->device_index()) return {};
  return refuse("nccl_comm", join("of cuda:", device), join("cuda:", g->device_index()), "the group's device");
}

Status check_experts(const EpGroup::State& g) {
  const contract::Geometry& layer = g.layer.geometry;
  if (g.options.expert_map != nullptr || layer.local_experts * g.ranks == layer.experts) return {};
  return refuse("layer.local_experts", join(layer.local_experts), join(layer.experts / g.ranks),
                join(layer.experts, " experts on ", g.ranks, " ranks, without a map"));
}

Status upload_table(const OwnerLists& lists, EpGroup::State* g) {
  const auto begin_bytes =
      static_cast<std::size_t>(round_up(static_cast<std::int64_t>(lists.begin.size() * sizeof(std::int32_t)), 256));
  const std::size_t owner_bytes = lists.owners.size() * sizeof(kernels::expert_parallel::Owner);
  Result<DeviceMemory> memory = allocate(begin_bytes + owner_bytes);
  BLOCKMOE_RETURN_IF_ERROR(memory.status());
  char* const at = static_cast<char*>(memory.value().get());
  BLOCKMOE_RETURN_IF_ERROR(
      cuda_status(cudaMemcpy(at, lists.begin.data(), lists.begin.size() * sizeof(std::int32_t), cudaMemcpyHostToDevice),
                  "cudaMemcpy"));
  BLOCKMOE_RETURN_IF_ERROR(cuda_status(
      cudaMemcpy(at + begin_bytes, lists.owners.data(), owner_bytes, cudaMemcpyHostToDevice), "cudaMemcpy"));
  g->table = {reinterpret_cast<const std::int32_t*>(at),
              reinterpret_cast<const kernels::expert_parallel::Owner*>(at + begin_bytes)};
  g->table_memory = std::move(memory).value();
  return {};
}

std::string_view words(EpWay way) {
  return way == EpWay::exchange ? "exchange" : "gather";
}

std::string explain(const EpGroup::State& g) {
  const std::int64_t most = g.layer.max_tokens;
  const Link link = link_of(g.ranks);
  std::string text =
      join("group: rank ", g.rank, " of ", g.ranks, ", ", g.layer.geometry.local_experts, " of ",
           g.layer.geometry.experts, " experts here", g.options.expert_map == nullptr ? "" : " by a map", "\n");
  text += join("way at ", most, " tokens a rank: ", words(g.way(most)),
               g.options.way == EpWay::automatic ? ", by the cost model: " : ", as asked; the cost model: ");
  for (const EpWay way : {EpWay::gather, EpWay::exchange}) {
    const EpCost cost = predict(way, g.sizes(most), link);
    text += join(words(way), " ", static_cast<std::int64_t>(cost.total_us), " us", way == EpWay::gather ? ", " : "\n");
  }
  const std::int32_t pieces = g.pieces(most);
  text += join("exchange: ", pieces, pieces == 1 ? " piece" : " pieces", ", ",
               g.options.serial == 1
                   ? "nothing beside anything"
                   : join("at least ", g.options.comm_sms, " multiprocessors left to NCCL beside products"),
               "\nworkspace: ", (g.need.bytes + 500'000) / 1'000'000, " MB\n");
  return text + g.plan->explain();
}

Status make_plans(EpGroup::State* g, const Geometry& layer, const Options& options) {
  g->max_slots = round_up(g->layer.max_tokens, g->options.pieces > 0 ? g->options.pieces : kMostChosenPieces);
  const std::int64_t most = g->ranks * g->max_slots;
  const Result<Plan> plan = Plan::create(layer, most, g->layer.device, options);
  BLOCKMOE_RETURN_IF_ERROR(plan.status());
  g->plan = plan.value();
  g->beside_plan = plan.value();
  const std::int32_t all = g->layer.device.sm_count;
  const std::int32_t asked = options.max_sms == 0 ? all : std::min(options.max_sms, all);
  if (g->options.serial == 0 && g->options.comm_sms > 0 && all > g->options.comm_sms) {
    Options beside = g->layer.options;
    beside.max_sms = std::min(asked, all - g->options.comm_sms);
    const Result<Plan> fewer = Plan::create(layer, most, g->layer.device, beside);
    BLOCKMOE_RETURN_IF_ERROR(fewer.status());
    g->beside_plan = fewer.value();
  }
  g->layout = kernels::expert_parallel::record_layout(g->layer.geometry);
  g->offsets = buffer_offsets(g->layer.geometry, g->ranks, g->max_slots, g->plan_bytes());
  g->need = {g->offsets.bytes, 256, WorkspaceInit::anything};
  return {};
}

}  // namespace
}  // namespace ep

EpGroup::EpGroup(std::shared_ptr<const State> state) : state_(std::move(state)) {}

Result<EpGroup> EpGroup::create(const Geometry& layer, std::int64_t max_tokens, const DeviceInfo& device,
                                void* nccl_comm, const EpOptions& ep_options, const Options& options) {
  return api::guarded([&]() -> Result<EpGroup> {
    auto g = std::make_shared<State>();
    BLOCKMOE_RETURN_IF_ERROR(ep::read_options(ep_options, &g->options));
    BLOCKMOE_RETURN_IF_ERROR(ep::check_range("max_tokens", max_tokens, 1, ep::kMostTokens));
    Result<api::PlanRequest> request = api::validate_plan(layer, max_tokens, device, options);
    BLOCKMOE_RETURN_IF_ERROR(request.status());
    g->layer = std::move(request).value();
    BLOCKMOE_RETURN_IF_ERROR(ep::check_pruning(g->layer.options.pruning));
    if (g->device().type != DeviceType::cuda) {
      return Status(StatusCode::unsupported, "device: cpu, and NCCL connects CUDA devices");
    }
    BLOCKMOE_RETURN_IF_ERROR(ep::read_comm(g.get(), nccl_comm));
    const api::CurrentDevice current(g->device_index());
    BLOCKMOE_RETURN_IF_ERROR(current.status());
    BLOCKMOE_RETURN_IF_ERROR(ep::make_plans(g.get(), layer, options));
    BLOCKMOE_RETURN_IF_ERROR(g->lanes.make());
    BLOCKMOE_RETURN_IF_ERROR(ep::kernel_status(kernels::expert_parallel::prepare()));

    std::vector<ep::Description> of_rank;
    BLOCKMOE_RETURN_IF_ERROR(ep::describe_ranks(*g, &of_rank));
    BLOCKMOE_RETURN_IF_ERROR(ep::check_experts(*g));  // behind it: ranks that differ are told so, all of them
    std::vector<std::vector<std::int32_t>> experts_of_rank;
    experts_of_rank.reserve(of_rank.size());
    for (const ep::Description& rank : of_rank) {
      experts_of_rank.emplace_back(rank.experts.begin(), rank.experts.begin() + rank.local_experts);
    }
    const Result<ep::OwnerLists> lists = ep::owner_lists(experts_of_rank, g->layer.geometry.experts);
    BLOCKMOE_RETURN_IF_ERROR(lists.status());
    BLOCKMOE_RETURN_IF_ERROR(ep::upload_table(lists.value(), g.get()));
    g->local_offset = g->options.expert_map == nullptr ? g->rank * g->layer.geometry.local_experts : 0;
    g->explain = ep::explain(*g);
    return EpGroup(std::move(g));
  });
}

std::int32_t EpGroup::rank() const {
  return state_->rank;
}

std::int32_t EpGroup::ranks() const {
  return state_->ranks;
}

WorkspaceNeed EpGroup::workspace() const {
  return state_->need;
}

const std::string& EpGroup::explain() const {
  return state_->explain;
}

EpWay EpGroup::way(std::int64_t most_tokens) const {
  return state_->way(most_tokens == 0 ? state_->layer.max_tokens : most_tokens);
}

Status EpGroup::check(Stream stream, std::int32_t timeout_ms) const {
  return api::guarded([&]() -> Status {
    const State& g = *state_;
    if (g.aborted) return {StatusCode::device_error, "EpGroup: its communicator was aborted"};
    const api::CurrentDevice current(g.device_index());
    BLOCKMOE_RETURN_IF_ERROR(current.status());
    return g.await_stream(static_cast<cudaStream_t>(stream), ep::Clock::now() + std::chrono::milliseconds(timeout_ms),
                          g.calls, "EpGroup::check");
  });
}

Result<BoundEpGroup> EpGroup::bind(const Weights& weights) const {
  return api::guarded([&]() -> Result<BoundEpGroup> {
    const State& g = *state_;
    auto bound = std::make_shared<BoundEpGroup::State>();
    bound->group = state_;
    Result<api::CheckedWeights> checked = api::validate_weights(weights, g.layer);
    BLOCKMOE_RETURN_IF_ERROR(checked.status());
    bound->weights = std::move(checked).value();
    if (const std::int32_t offset = bound->weights.weights.local_expert_offset; offset != g.local_offset) {
      return api::refuse("local_expert_offset", api::join(offset), api::join(g.local_offset),
                         g.options.expert_map == nullptr
                             ? api::join("rank ", g.rank, ", ", g.layer.geometry.local_experts, " experts a rank")
                             : "with a map it means nothing");
    }
    const Result<BoundPlan> plain = g.plan->bind(weights);
    BLOCKMOE_RETURN_IF_ERROR(plain.status());
    const Result<BoundPlan> beside = g.beside_plan->bind(weights);
    BLOCKMOE_RETURN_IF_ERROR(beside.status());
    bound->bound = plain.value();
    bound->beside = beside.value();
    return BoundEpGroup(std::move(bound));
  });
}

}  // namespace blockmoe
