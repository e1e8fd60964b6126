// blockmoe_c.cpp: the C ABI (blockmoe.h) on top of the C++ API. Structs are read by the caller's size, translated field
// by field, and every outcome becomes a code and a message; nothing is decided here.
#include <algorithm>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

#include "api/guard.hpp"
#include "api/refusal.hpp"
#include "api/return_if_error.hpp"
#include "api/sized_struct.hpp"
#include "blockmoe/blockmoe.h"
#include "blockmoe/blockmoe.hpp"

struct blockmoe_plan {
  blockmoe::Plan plan;
};

struct blockmoe_bound_plan {
  blockmoe::BoundPlan bound;
};

struct blockmoe_ep_group {
  blockmoe::EpGroup group;
};

struct blockmoe_bound_ep_group {
  blockmoe::BoundEpGroup bound;
};

namespace blockmoe::api {

template <>
inline constexpr std::uint32_t kFirstSize<blockmoe_geometry> = 40;
template <>
inline constexpr std::uint32_t kFirstSize<blockmoe_options> = 20;
template <>
inline constexpr std::uint32_t kFirstSize<blockmoe_device_info> = 88;
template <>
inline constexpr std::uint32_t kFirstSize<blockmoe_weights> = 456;
template <>
inline constexpr std::uint32_t kFirstSize<blockmoe_activations> = 272;
template <>
inline constexpr std::uint32_t kFirstSize<blockmoe_prerouted_activations> = 360;
template <>
inline constexpr std::uint32_t kFirstSize<blockmoe_workspace_need> = 24;
template <>
inline constexpr std::uint32_t kFirstSize<blockmoe_ep_options> = 56;

}  // namespace blockmoe::api

namespace {

using blockmoe::Result;
using blockmoe::Status;
using blockmoe::StatusCode;
namespace api = blockmoe::api;

// ---- the same values under both names

template <typename Enum>
constexpr bool same(Enum cpp, std::int32_t c) {
  return static_cast<std::int32_t>(cpp) == c;
}

static_assert(same(StatusCode::ok, BLOCKMOE_OK) && same(StatusCode::invalid_argument, BLOCKMOE_INVALID_ARGUMENT) &&
              same(StatusCode::unsupported, BLOCKMOE_UNSUPPORTED) &&
              same(StatusCode::device_error, BLOCKMOE_DEVICE_ERROR) &&
              same(StatusCode::out_of_memory, BLOCKMOE_OUT_OF_MEMORY));
static_assert(same(blockmoe::DType::float32, BLOCKMOE_FLOAT32) && same(blockmoe::DType::bfloat16, BLOCKMOE_BFLOAT16) &&
              same(blockmoe::DType::float8_e4m3, BLOCKMOE_FLOAT8_E4M3) && same(blockmoe::DType::int32, BLOCKMOE_INT32));
static_assert(same(blockmoe::DeviceType::cpu, BLOCKMOE_DEVICE_CPU) &&
              same(blockmoe::DeviceType::cuda, BLOCKMOE_DEVICE_CUDA));
static_assert(same(blockmoe::Backend::automatic, BLOCKMOE_BACKEND_AUTOMATIC) &&
              same(blockmoe::Backend::cpu, BLOCKMOE_BACKEND_CPU) &&
              same(blockmoe::Backend::portable, BLOCKMOE_BACKEND_PORTABLE) &&
              same(blockmoe::Backend::hopper, BLOCKMOE_BACKEND_HOPPER) &&
              same(blockmoe::Backend::blackwell, BLOCKMOE_BACKEND_BLACKWELL));
static_assert(same(blockmoe::Policy::automatic, BLOCKMOE_POLICY_AUTOMATIC) &&
              same(blockmoe::Policy::reference_b200, BLOCKMOE_POLICY_REFERENCE_B200) &&
              same(blockmoe::Policy::cutlass, BLOCKMOE_POLICY_CUTLASS) &&
              same(blockmoe::Policy::trtllm, BLOCKMOE_POLICY_TRTLLM));
static_assert(same(blockmoe::IntermediateType::e4m3, BLOCKMOE_INTERMEDIATE_E4M3) &&
              same(blockmoe::IntermediateType::e4m3x2, BLOCKMOE_INTERMEDIATE_E4M3X2));
static_assert(same(blockmoe::WorkspaceInit::anything, BLOCKMOE_WORKSPACE_ANYTHING) &&
              same(blockmoe::WorkspaceInit::zeroed_once, BLOCKMOE_WORKSPACE_ZEROED_ONCE));
static_assert(same(blockmoe::EpWay::automatic, BLOCKMOE_EP_AUTOMATIC) &&
              same(blockmoe::EpWay::gather, BLOCKMOE_EP_GATHER) &&
              same(blockmoe::EpWay::exchange, BLOCKMOE_EP_EXCHANGE));
static_assert(blockmoe::kMaxRank == BLOCKMOE_MAX_RANK);

// ---- errors

constexpr std::size_t kMessageOffset = offsetof(blockmoe_error, message);

// Writes what the caller's version of blockmoe_error holds: never past its size, always with a NUL.
void write_error(blockmoe_error* error, StatusCode code, std::string_view message) noexcept {
  if (error == nullptr || error->struct_size <= kMessageOffset) return;
  error->code = static_cast<blockmoe_status>(code);
  const std::size_t room = std::min<std::size_t>(error->struct_size - kMessageOffset, sizeof error->message) - 1;
  const std::size_t length = std::min(message.size(), room);
  if (length > 0) std::memcpy(error->message, message.data(), length);
  error->message[length] = '\0';
}

// Every entry that can fail: body() returns a Status.
template <typename Body>
blockmoe_status entry(blockmoe_error* error, Body&& body) noexcept {
  const Status status = api::guarded(body);
  write_error(error, status.code(), status.message());
  return static_cast<blockmoe_status>(status.code());
}

template <typename T>
Status check_pointer(const char* argument, const T* pointer) {
  if (pointer != nullptr) return {};
  return api::refuse(argument, "null", "an address");
}

Status check_flag(const char* argument, std::int32_t flag) {
  if (flag == 0 || flag == 1) return {};
  return api::refuse(argument, api::join(flag), "0 or 1");
}

template <typename T>
Status read(const char* argument, const T* from, T* to) {
  BLOCKMOE_RETURN_IF_ERROR(check_pointer(argument, from));
  return api::read_struct(argument, *from, to);
}

// ---- translation

blockmoe::Device device_of(std::int32_t type, std::int32_t index) {
  return {.type = static_cast<blockmoe::DeviceType>(type), .index = index};
}

blockmoe::Tensor translate(const blockmoe_tensor& c) {
  blockmoe::Tensor tensor;
  tensor.data = c.data;
  tensor.dtype = static_cast<blockmoe::DType>(c.dtype);
  tensor.device = device_of(c.device_type, c.device_index);
  tensor.rank = c.rank;
  std::copy(std::begin(c.shape), std::end(c.shape), tensor.shape.begin());
  std::copy(std::begin(c.stride), std::end(c.stride), tensor.stride.begin());
  return tensor;
}

blockmoe::Geometry translate(const blockmoe_geometry& c) {
  blockmoe::Geometry geometry;
  geometry.experts = c.experts;
  geometry.hidden = c.hidden;
  geometry.intermediate = c.intermediate;
  geometry.local_experts = c.local_experts;
  geometry.top_k = c.top_k;
  geometry.n_group = c.n_group;
  geometry.topk_group = c.topk_group;
  return geometry;
}

blockmoe::Options translate(const blockmoe_options& c) {
  blockmoe::Options options;
  options.backend = static_cast<blockmoe::Backend>(c.backend);
  options.gate_first = c.gate_first != 0;
  options.max_sms = c.max_sms;
  options.max_threads = c.max_threads;
  options.pruning = {c.pruning.max_local_picks, c.pruning.min_weight_share};
  options.batch_invariant = c.batch_invariant != 0;
  options.policy = static_cast<blockmoe::Policy>(c.policy);
  options.no_trtllm_gemm1 = c.no_trtllm_gemm1;
  options.no_trtllm_gemm2 = c.no_trtllm_gemm2;
  options.mma_gemm2_m_threshold = c.mma_gemm2_m_threshold;
  options.trtllm_gemm2_m_threshold = c.trtllm_gemm2_m_threshold;
  options.intermediate_type = static_cast<blockmoe::IntermediateType>(c.intermediate_type);
  return options;
}

blockmoe::DeviceInfo translate(const blockmoe_device_info& c) {
  blockmoe::DeviceInfo info;
  info.device = device_of(c.device_type, c.device_index);
  info.compute_capability = c.compute_capability;
  info.sm_count = c.sm_count;
  info.shared_memory_per_block = c.shared_memory_per_block;
  static_assert(sizeof info.name == sizeof c.name);
  std::memcpy(info.name, c.name, sizeof info.name);
  return info;
}

blockmoe_device_info translate(const blockmoe::DeviceInfo& info) {
  blockmoe_device_info c = blockmoe_device_info_init();
  c.device_type = static_cast<std::int32_t>(info.device.type);
  c.device_index = info.device.index;
  c.compute_capability = info.compute_capability;
  c.sm_count = info.sm_count;
  c.shared_memory_per_block = info.shared_memory_per_block;
  std::memcpy(c.name, info.name, sizeof c.name);
  return c;
}

blockmoe::Weights translate(const blockmoe_weights& c) {
  blockmoe::Weights weights;
  weights.local_expert_offset = c.local_expert_offset;
  weights.routed_scaling_factor = c.routed_scaling_factor;
  weights.routing_bias = translate(c.routing_bias);
  weights.gemm1_weights = translate(c.gemm1_weights);
  weights.gemm1_weights_scale = translate(c.gemm1_weights_scale);
  weights.gemm2_weights = translate(c.gemm2_weights);
  weights.gemm2_weights_scale = translate(c.gemm2_weights_scale);
  return weights;
}

blockmoe::Activations translate(const blockmoe_activations& c) {
  blockmoe::Activations activations;
  activations.routing_logits = translate(c.routing_logits);
  activations.hidden_states = translate(c.hidden_states);
  activations.hidden_states_scale = translate(c.hidden_states_scale);
  return activations;
}

blockmoe::PreroutedActivations translate(const blockmoe_prerouted_activations& c) {
  blockmoe::PreroutedActivations activations;
  activations.reserved = c.reserved;
  activations.topk_ids = translate(c.topk_ids);
  activations.topk_weights = translate(c.topk_weights);
  activations.hidden_states = translate(c.hidden_states);
  activations.hidden_states_scale = translate(c.hidden_states_scale);
  return activations;
}

blockmoe::EpOptions translate(const blockmoe_ep_options& c) {
  blockmoe::EpOptions options;
  options.way = static_cast<blockmoe::EpWay>(c.way);
  options.pieces = c.pieces;
  options.comm_sms = c.comm_sms;
  options.serial = c.serial;
  options.timeout_ms = c.timeout_ms;
  options.expert_map = c.expert_map;
  options.board = {.context = c.board.context, .post = c.board.post, .read = c.board.read};
  return options;
}

// Of a plan or of a group.
Status give_need(const blockmoe::WorkspaceNeed& known, blockmoe_workspace_need* need) {
  blockmoe_workspace_need c = blockmoe_workspace_need_init();
  c.init = static_cast<std::int32_t>(known.init);
  c.bytes = known.bytes;
  c.alignment = known.alignment;
  return api::write_struct("need", c, need);
}

Status give_device(const Result<blockmoe::DeviceInfo>& found, blockmoe_device_info* info) {
  BLOCKMOE_RETURN_IF_ERROR(found.status());
  return api::write_struct("info", translate(found.value()), info);
}

}  // namespace

extern "C" {

uint32_t blockmoe_version(void) {
  return BLOCKMOE_VERSION_NUMBER;
}

const char* blockmoe_version_string(void) {
  return BLOCKMOE_VERSION;
}

blockmoe_status blockmoe_query_device(int32_t device_type, int32_t device_index, blockmoe_device_info* info,
                                      blockmoe_error* error) {
  return entry(error, [&]() -> Status {
    BLOCKMOE_RETURN_IF_ERROR(check_pointer("info", info));
    return give_device(blockmoe::query_device(device_of(device_type, device_index)), info);
  });
}

blockmoe_status blockmoe_describe_device(const char* name, blockmoe_device_info* info, blockmoe_error* error) {
  return entry(error, [&]() -> Status {
    BLOCKMOE_RETURN_IF_ERROR(check_pointer("name", name));
    BLOCKMOE_RETURN_IF_ERROR(check_pointer("info", info));
    return give_device(blockmoe::describe_device(name), info);
  });
}

blockmoe_status blockmoe_plan_create(const blockmoe_geometry* geometry, int64_t max_tokens,
                                     const blockmoe_device_info* device, const blockmoe_options* options,
                                     blockmoe_plan** plan, blockmoe_error* error) {
  return entry(error, [&]() -> Status {
    blockmoe_geometry sizes = blockmoe_geometry_init();
    blockmoe_device_info info = blockmoe_device_info_init();
    blockmoe_options wishes = blockmoe_options_init();
    BLOCKMOE_RETURN_IF_ERROR(read("geometry", geometry, &sizes));
    BLOCKMOE_RETURN_IF_ERROR(read("device", device, &info));
    if (options != nullptr) BLOCKMOE_RETURN_IF_ERROR(read("options", options, &wishes));
    BLOCKMOE_RETURN_IF_ERROR(check_flag("options.gate_first", wishes.gate_first));
    BLOCKMOE_RETURN_IF_ERROR(check_flag("options.batch_invariant", wishes.batch_invariant));
    BLOCKMOE_RETURN_IF_ERROR(check_pointer("plan", plan));
    Result<blockmoe::Plan> made =
        blockmoe::Plan::create(translate(sizes), max_tokens, translate(info), translate(wishes));
    BLOCKMOE_RETURN_IF_ERROR(made.status());
    *plan = new blockmoe_plan{std::move(made).value()};
    return {};
  });
}

void blockmoe_plan_destroy(blockmoe_plan* plan) {
  delete plan;
}

blockmoe_status blockmoe_plan_workspace(const blockmoe_plan* plan, blockmoe_workspace_need* need,
                                        blockmoe_error* error) {
  return entry(error, [&]() -> Status {
    BLOCKMOE_RETURN_IF_ERROR(check_pointer("plan", plan));
    BLOCKMOE_RETURN_IF_ERROR(check_pointer("need", need));
    return give_need(plan->plan.workspace(), need);
  });
}

int32_t blockmoe_plan_backend(const blockmoe_plan* plan) {
  return plan == nullptr ? BLOCKMOE_BACKEND_AUTOMATIC : static_cast<std::int32_t>(plan->plan.backend());
}

const char* blockmoe_plan_path(const blockmoe_plan* plan) {
  return plan == nullptr ? "" : plan->plan.path().c_str();
}

const char* blockmoe_plan_gemm1_path(const blockmoe_plan* plan) {
  return plan == nullptr ? "" : plan->plan.gemm1_path().c_str();
}

const char* blockmoe_plan_gemm2_path(const blockmoe_plan* plan) {
  return plan == nullptr ? "" : plan->plan.gemm2_path().c_str();
}

const char* blockmoe_plan_explain(const blockmoe_plan* plan) {
  return plan == nullptr ? "" : plan->plan.explain().c_str();
}

blockmoe_status blockmoe_plan_bind(const blockmoe_plan* plan, const blockmoe_weights* weights,
                                   blockmoe_bound_plan** bound, blockmoe_error* error) {
  return entry(error, [&]() -> Status {
    blockmoe_weights given = blockmoe_weights_init();
    BLOCKMOE_RETURN_IF_ERROR(check_pointer("plan", plan));
    BLOCKMOE_RETURN_IF_ERROR(read("weights", weights, &given));
    BLOCKMOE_RETURN_IF_ERROR(check_pointer("bound", bound));
    Result<blockmoe::BoundPlan> made = plan->plan.bind(translate(given));
    BLOCKMOE_RETURN_IF_ERROR(made.status());
    *bound = new blockmoe_bound_plan{std::move(made).value()};
    return {};
  });
}

void blockmoe_bound_plan_destroy(blockmoe_bound_plan* bound) {
  delete bound;
}

blockmoe_status blockmoe_bound_plan_run(const blockmoe_bound_plan* bound, const blockmoe_activations* activations,
                                        const blockmoe_tensor* output, void* workspace, size_t workspace_bytes,
                                        void* stream, blockmoe_error* error) {
  return entry(error, [&]() -> Status {
    blockmoe_activations given = blockmoe_activations_init();
    BLOCKMOE_RETURN_IF_ERROR(check_pointer("bound", bound));
    BLOCKMOE_RETURN_IF_ERROR(read("activations", activations, &given));
    BLOCKMOE_RETURN_IF_ERROR(check_pointer("output", output));
    return bound->bound.run(translate(given), translate(*output), {.data = workspace, .bytes = workspace_bytes},
                            stream);
  });
}

blockmoe_status blockmoe_bound_plan_run_prerouted(const blockmoe_bound_plan* bound,
                                                  const blockmoe_prerouted_activations* activations,
                                                  const blockmoe_tensor* output, void* workspace,
                                                  size_t workspace_bytes, void* stream, blockmoe_error* error) {
  return entry(error, [&]() -> Status {
    blockmoe_prerouted_activations given = blockmoe_prerouted_activations_init();
    BLOCKMOE_RETURN_IF_ERROR(check_pointer("bound", bound));
    BLOCKMOE_RETURN_IF_ERROR(read("activations", activations, &given));
    BLOCKMOE_RETURN_IF_ERROR(check_pointer("output", output));
    return bound->bound.run_prerouted(translate(given), translate(*output),
                                      {.data = workspace, .bytes = workspace_bytes}, stream);
  });
}

blockmoe_status blockmoe_bound_plan_route(const blockmoe_bound_plan* bound, const blockmoe_tensor* routing_logits,
                                          const blockmoe_tensor* topk_ids, const blockmoe_tensor* topk_weights,
                                          void* stream, blockmoe_error* error) {
  return entry(error, [&]() -> Status {
    BLOCKMOE_RETURN_IF_ERROR(check_pointer("bound", bound));
    BLOCKMOE_RETURN_IF_ERROR(check_pointer("routing_logits", routing_logits));
    BLOCKMOE_RETURN_IF_ERROR(check_pointer("topk_ids", topk_ids));
    BLOCKMOE_RETURN_IF_ERROR(check_pointer("topk_weights", topk_weights));
    return bound->bound.route(translate(*routing_logits), translate(*topk_ids), translate(*topk_weights), stream);
  });
}

blockmoe_status blockmoe_ep_group_create(const blockmoe_geometry* layer, int64_t max_tokens,
                                         const blockmoe_device_info* device, void* nccl_comm,
                                         const blockmoe_ep_options* ep_options, const blockmoe_options* options,
                                         blockmoe_ep_group** group, blockmoe_error* error) {
  return entry(error, [&]() -> Status {
    blockmoe_geometry sizes = blockmoe_geometry_init();
    blockmoe_device_info info = blockmoe_device_info_init();
    blockmoe_ep_options ep_wishes = blockmoe_ep_options_init();
    blockmoe_options wishes = blockmoe_options_init();
    BLOCKMOE_RETURN_IF_ERROR(read("layer", layer, &sizes));
    BLOCKMOE_RETURN_IF_ERROR(read("device", device, &info));
    if (ep_options != nullptr) BLOCKMOE_RETURN_IF_ERROR(read("ep_options", ep_options, &ep_wishes));
    if (options != nullptr) BLOCKMOE_RETURN_IF_ERROR(read("options", options, &wishes));
    BLOCKMOE_RETURN_IF_ERROR(check_flag("options.gate_first", wishes.gate_first));
    BLOCKMOE_RETURN_IF_ERROR(check_flag("options.batch_invariant", wishes.batch_invariant));
    BLOCKMOE_RETURN_IF_ERROR(check_pointer("group", group));
    Result<blockmoe::EpGroup> made = blockmoe::EpGroup::create(translate(sizes), max_tokens, translate(info), nccl_comm,
                                                               translate(ep_wishes), translate(wishes));
    BLOCKMOE_RETURN_IF_ERROR(made.status());
    *group = new blockmoe_ep_group{std::move(made).value()};
    return {};
  });
}

void blockmoe_ep_group_destroy(blockmoe_ep_group* group) {
  delete group;
}

blockmoe_status blockmoe_ep_group_workspace(const blockmoe_ep_group* group, blockmoe_workspace_need* need,
                                            blockmoe_error* error) {
  return entry(error, [&]() -> Status {
    BLOCKMOE_RETURN_IF_ERROR(check_pointer("group", group));
    BLOCKMOE_RETURN_IF_ERROR(check_pointer("need", need));
    return give_need(group->group.workspace(), need);
  });
}

int32_t blockmoe_ep_group_rank(const blockmoe_ep_group* group) {
  return group == nullptr ? -1 : group->group.rank();
}

int32_t blockmoe_ep_group_ranks(const blockmoe_ep_group* group) {
  return group == nullptr ? 0 : group->group.ranks();
}

const char* blockmoe_ep_group_explain(const blockmoe_ep_group* group) {
  return group == nullptr ? "" : group->group.explain().c_str();
}

int32_t blockmoe_ep_group_way(const blockmoe_ep_group* group, int64_t most_tokens) {
  return group == nullptr ? BLOCKMOE_EP_AUTOMATIC : static_cast<std::int32_t>(group->group.way(most_tokens));
}

blockmoe_status blockmoe_ep_group_check(const blockmoe_ep_group* group, void* stream, int32_t timeout_ms,
                                        blockmoe_error* error) {
  return entry(error, [&]() -> Status {
    BLOCKMOE_RETURN_IF_ERROR(check_pointer("group", group));
    return group->group.check(stream, timeout_ms);
  });
}

blockmoe_status blockmoe_ep_group_bind(const blockmoe_ep_group* group, const blockmoe_weights* weights,
                                       blockmoe_bound_ep_group** bound, blockmoe_error* error) {
  return entry(error, [&]() -> Status {
    blockmoe_weights given = blockmoe_weights_init();
    BLOCKMOE_RETURN_IF_ERROR(check_pointer("group", group));
    BLOCKMOE_RETURN_IF_ERROR(read("weights", weights, &given));
    BLOCKMOE_RETURN_IF_ERROR(check_pointer("bound", bound));
    Result<blockmoe::BoundEpGroup> made = group->group.bind(translate(given));
    BLOCKMOE_RETURN_IF_ERROR(made.status());
    *bound = new blockmoe_bound_ep_group{std::move(made).value()};
    return {};
  });
}

void blockmoe_bound_ep_group_destroy(blockmoe_bound_ep_group* bound) {
  delete bound;
}

blockmoe_status blockmoe_bound_ep_group_run(const blockmoe_bound_ep_group* bound,
                                            const blockmoe_activations* activations, const blockmoe_tensor* output,
                                            void* workspace, size_t workspace_bytes, void* stream, int64_t most_tokens,
                                            blockmoe_error* error) {
  return entry(error, [&]() -> Status {
    blockmoe_activations given = blockmoe_activations_init();
    BLOCKMOE_RETURN_IF_ERROR(check_pointer("bound", bound));
    BLOCKMOE_RETURN_IF_ERROR(read("activations", activations, &given));
    BLOCKMOE_RETURN_IF_ERROR(check_pointer("output", output));
    return bound->bound.run(translate(given), translate(*output), {.data = workspace, .bytes = workspace_bytes}, stream,
                            most_tokens);
  });
}

}  // extern "C"
