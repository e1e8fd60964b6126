// group.cpp: EpGroup and BoundEpGroup on NCCL.
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

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
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
#include "ep/access.hpp"
#include "ep/buffers.hpp"
#include "ep/cost_model.hpp"
#include "ep/expert_map.hpp"
#include "ep/nccl.hpp"
#include "ep/setup.hpp"
#include "expert_parallel/records.h"

namespace blockmoe {
namespace ep {
namespace {

namespace records = kernels::expert_parallel;
using api::join;
using api::refuse;
using Clock = std::chrono::steady_clock;

constexpr std::int32_t kMostPieces = 8;
constexpr std::int32_t kTimeoutMs = 30000;
constexpr std::int64_t kMostTokens = 1 << 24;
constexpr std::chrono::microseconds kPoll(200);

Status cuda_status(cudaError_t code, const char* call) {
  if (code == cudaSuccess) return {};
  return {StatusCode::device_error, join(call, ": ", cudaGetErrorString(code))};
}

Status kernel_status(const kernels::Error& error) {
  if (error.ok()) return {};
  return {StatusCode::device_error, join("kernel ", error.kernel, ": ", kernels::error_text(error))};
}

struct CudaFree {
  void operator()(void* memory) const { cudaFree(memory); }
};
using DeviceMemory = std::unique_ptr<void, CudaFree>;

Result<DeviceMemory> allocate(std::size_t bytes) {
  void* memory = nullptr;
  BLOCKMOE_RETURN_IF_ERROR(cuda_status(cudaMalloc(&memory, bytes), "cudaMalloc"));
  return DeviceMemory(memory);
}

// The group's stream, and what orders it and the caller's.
struct Lanes {
  cudaStream_t comm = nullptr;
  cudaEvent_t packed = nullptr;
  cudaEvent_t returned = nullptr;
  std::array<cudaEvent_t, kMostPieces> arrived{};
  std::array<cudaEvent_t, kMostPieces> done{};

  Lanes() = default;
  Lanes(const Lanes&) = delete;
  Lanes& operator=(const Lanes&) = delete;
  ~Lanes() {
    for (const cudaEvent_t event : arrived) destroy(event);
    for (const cudaEvent_t event : done) destroy(event);
    destroy(packed);
    destroy(returned);
    if (comm != nullptr) cudaStreamDestroy(comm);
  }

  Status make() {
    int least = 0;
    int greatest = 0;
    BLOCKMOE_RETURN_IF_ERROR(cuda_status(cudaDeviceGetStreamPriorityRange(&least, &greatest), "stream priorities"));
    // Ahead of the products: what waits for a message is further behind than what computes.
    BLOCKMOE_RETURN_IF_ERROR(
        cuda_status(cudaStreamCreateWithPriority(&comm, cudaStreamNonBlocking, greatest), "cudaStreamCreate"));
    for (cudaEvent_t* event : {&packed, &returned}) BLOCKMOE_RETURN_IF_ERROR(make_event(event));
    for (auto* events : {&arrived, &done}) {
      for (cudaEvent_t& event : *events) BLOCKMOE_RETURN_IF_ERROR(make_event(&event));
    }
    return {};
  }

 private:
  static void destroy(cudaEvent_t event) {
    if (event != nullptr) cudaEventDestroy(event);
  }
  static Status make_event(cudaEvent_t* event) {
    return cuda_status(cudaEventCreateWithFlags(event, cudaEventDisableTiming), "cudaEventCreate");
  }
};

}  // namespace
}  // namespace ep

struct EpGroup::State {
  api::PlanRequest layer;  // of one rank's call: max_tokens is its largest T
  EpOptions options;       // whole, with the library's choices for zeros
  const ep::nccl::Functions* nccl = nullptr;
  ep::nccl::Comm comm = nullptr;
  std::int32_t rank = 0;
  std::int32_t ranks = 1;
  std::int32_t local_offset = 0;  // of the operator's calls: ids are this and local numbers
  std::int64_t max_slots = 0;
  std::optional<Plan> plan;         // of all calls of the operator
  std::optional<Plan> beside_plan;  // of those beside which parts travel
  kernels::expert_parallel::RecordLayout layout;
  ep::BufferOffsets offsets;
  WorkspaceNeed need;
  std::string explain;
  ep::DeviceMemory table_memory;
  kernels::expert_parallel::OwnerTable table;  // on the device
  ep::Lanes lanes;
  mutable std::atomic<std::int64_t> calls = 0;
  mutable std::atomic<bool> aborted = false;

  Device device() const { return layer.device.device; }
  std::int32_t device_index() const { return layer.device.device.index; }
  std::size_t plan_bytes() const {  // of the workspace's beginning
    return std::max(plan->workspace().bytes, beside_plan->workspace().bytes);
  }
  bool can_start_early() const { return layer.device.compute_capability >= 90; }

  Status nccl_status(ep::nccl::Code code, const char* call) const {
    if (code == 0) return {};
    return {StatusCode::device_error, api::join(call, ": ", nccl->get_error_string(code))};
  }
  // body() puts sends and receives into one group.
  template <typename Body>
  Status in_group(Body&& body) const {
    BLOCKMOE_RETURN_IF_ERROR(nccl_status(nccl->group_start(), "ncclGroupStart"));
    Status inside = body();
    ep::nccl::Code code = nccl->group_end();
    while (code == ep::nccl::kInProgress) {  // a communicator that doesn't block: it is still connecting
      std::this_thread::yield();
      const ep::nccl::Code asked = nccl->comm_get_async_error(comm, &code);
      if (asked != 0) code = asked;
    }
    if (!inside.ok()) return inside;
    return nccl_status(code, "ncclGroupEnd");
  }
  void post() const {
    const std::int64_t begun = ++calls;
    if (options.board.post != nullptr) options.board.post(options.board.context, rank, begun);
  }
  void abort() const {
    if (!aborted.exchange(true)) nccl->comm_abort(comm);
  }
};

struct BoundEpGroup::State {
  std::shared_ptr<const EpGroup::State> group;
  api::CheckedWeights weights;
  std::optional<BoundPlan> bound;
  std::optional<BoundPlan> beside;
};

namespace ep {
namespace {

// Until the stream has passed; not for longer than `until`, nor than the other ranks live.
Status await_stream(const EpGroup::State& g, cudaStream_t stream, Clock::time_point until, std::int64_t calls_expected,
                    const char* what) {
  const auto begin = Clock::now();
  for (;;) {
    const cudaError_t state = cudaStreamQuery(stream);
    if (state == cudaSuccess) return {};
    if (state != cudaErrorNotReady) {
      g.abort();
      return cuda_status(state, what);
    }
    nccl::Code error = 0;
    g.nccl->comm_get_async_error(g.comm, &error);
    const bool failed = error != 0 && error != nccl::kInProgress;
    if (failed || Clock::now() >= until) {
      const std::string who = blame(g.options.board, g.ranks, calls_expected);
      g.abort();
      if (failed) return {StatusCode::device_error, join(what, ": ", g.nccl->get_error_string(error), "; ", who)};
      const auto waited = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - begin).count();
      return {StatusCode::device_error, join(what, ": not done after ", waited, " ms; ", who)};
    }
    std::this_thread::sleep_for(kPoll);
  }
}

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
  BLOCKMOE_RETURN_IF_ERROR(await_stream(g, g.lanes.comm, until, 1, "EpGroup::create"));
  of_rank->resize(static_cast<std::size_t>(g.ranks));
  BLOCKMOE_RETURN_IF_ERROR(
      cuda_status(cudaMemcpy(of_rank->data(), all, kBytes * static_cast<std::size_t>(g.ranks), cudaMemcpyDeviceToHost),
                  "cudaMemcpy"));
  return check_agreement(*of_rank, fields);
}

Status check_range(const char* argument, std::int64_t value, std::int64_t least, std::int64_t most) {
  if (value >= least && value <= most) return {};
  return refuse(argument, join(value), join(least, " to ", most));
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

std::int32_t pieces_for(const EpGroup::State& g, std::int64_t most_tokens) {
  return g.options.pieces > 0 ? g.options.pieces : choose_pieces(g.ranks, most_tokens);
}

EpSizes sizes_for(const EpGroup::State& g, std::int64_t most_tokens) {
  return {g.layer.geometry, g.ranks, most_tokens, pieces_for(g, most_tokens)};
}

EpWay way_for(const EpGroup::State& g, std::int64_t most_tokens) {
  if (g.ranks == 1) return EpWay::gather;  // nobody to exchange with
  return g.options.way == EpWay::automatic ? choose_way(sizes_for(g, most_tokens)) : g.options.way;
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
  text += join("way at ", most, " tokens a rank: ", words(way_for(g, most)),
               g.options.way == EpWay::automatic ? ", by the cost model: " : ", as asked; the cost model: ");
  for (const EpWay way : {EpWay::gather, EpWay::exchange}) {
    const EpCost cost = predict(way, sizes_for(g, most), link);
    text += join(words(way), " ", static_cast<std::int64_t>(cost.total_us), " us", way == EpWay::gather ? ", " : "\n");
  }
  const std::int32_t pieces = pieces_for(g, most);
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
  g->layout = records::record_layout(g->layer.geometry);
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
  return ep::way_for(*state_, most_tokens == 0 ? state_->layer.max_tokens : most_tokens);
}

Status EpGroup::check(Stream stream, std::int32_t timeout_ms) const {
  return api::guarded([&]() -> Status {
    const State& g = *state_;
    if (g.aborted) return {StatusCode::device_error, "EpGroup: its communicator was aborted"};
    const api::CurrentDevice current(g.device_index());
    BLOCKMOE_RETURN_IF_ERROR(current.status());
    return ep::await_stream(g, static_cast<cudaStream_t>(stream),
                            ep::Clock::now() + std::chrono::milliseconds(timeout_ms), g.calls, "EpGroup::check");
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

BoundEpGroup::BoundEpGroup(std::shared_ptr<const State> state) : state_(std::move(state)) {}

Status BoundEpGroup::run(const Activations& activations, const Tensor& output, const Workspace& workspace,
                         Stream stream, std::int64_t most_tokens) const {
  return ep::Access::run_stages(*this, activations, output, workspace, stream, most_tokens, ep::kAllStages);
}

namespace ep {
namespace {

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
        way_(way_for(group, most_tokens)),
        pieces_(way_ == EpWay::exchange ? pieces_for(group, most_tokens) : 1),
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
  char* record(std::size_t offset, std::int64_t number) const { return base_ + offset + bytes_of_records(number); }
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
    const char* const from = record(g_.offsets.records, piece * count);
    return with_each_peer([&](std::int32_t peer) -> Status {
      char* const to = record(g_.offsets.received, (piece * (g_.ranks - 1) + place_of(peer)) * count);
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

  // Records -> parts.
  Status compute(const OperatorCall& call, const BoundPlan& bound) const {
    const std::int64_t count = call.run.records();
    const char* const from =
        call.own ? record(g_.offsets.records, call.run.first_token) : record(g_.offsets.received, call.first_record);
    const contract::Geometry& layer = g_.layer.geometry;
    auto* const scales = at<float>(g_.offsets.scales) + call.first_record * layer.hidden_blocks();
    auto* const ids = at<std::int32_t>(g_.offsets.local_ids) + call.first_record * layer.top_k;
    BLOCKMOE_RETURN_IF_ERROR(kernel_status(
        records::launch_unpack(g_.layout, call.run, g_.table, g_.rank, g_.local_offset, from, scales, ids, stream_)));
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
    return kernel_status(records::launch_sum(p, stream_));
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
