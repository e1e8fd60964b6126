// state.cpp: see state.hpp.
#include "ep/state.hpp"

#include "api/refusal.hpp"
#include "ep/setup.hpp"

namespace blockmoe {
namespace ep {
namespace {

void destroy(cudaEvent_t event) {
  if (event != nullptr) cudaEventDestroy(event);
}

Status make_event(cudaEvent_t* event) {
  return cuda_status(cudaEventCreateWithFlags(event, cudaEventDisableTiming), "cudaEventCreate");
}

}  // namespace

Status cuda_status(cudaError_t code, const char* call) {
  if (code == cudaSuccess) return {};
  return {StatusCode::device_error, api::join(call, ": ", cudaGetErrorString(code))};
}

Status kernel_status(const kernels::Error& error) {
  if (error.ok()) return {};
  return {StatusCode::device_error, api::join("kernel ", error.kernel, ": ", kernels::error_text(error))};
}

Status check_range(const char* argument, std::int64_t value, std::int64_t least, std::int64_t most) {
  if (value >= least && value <= most) return {};
  return api::refuse(argument, api::join(value), api::join(least, " to ", most));
}

Result<DeviceMemory> allocate(std::size_t bytes) {
  void* memory = nullptr;
  BLOCKMOE_RETURN_IF_ERROR(cuda_status(cudaMalloc(&memory, bytes), "cudaMalloc"));
  return DeviceMemory(memory);
}

Lanes::~Lanes() {
  for (const cudaEvent_t event : arrived) destroy(event);
  for (const cudaEvent_t event : done) destroy(event);
  destroy(packed);
  destroy(returned);
  if (comm != nullptr) cudaStreamDestroy(comm);
}

Status Lanes::make() {
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

}  // namespace ep

std::int32_t EpGroup::State::pieces(std::int64_t most_tokens) const {
  return options.pieces > 0 ? options.pieces : ep::choose_pieces(ranks, most_tokens);
}

ep::EpSizes EpGroup::State::sizes(std::int64_t most_tokens) const {
  return {layer.geometry, ranks, most_tokens, pieces(most_tokens)};
}

EpWay EpGroup::State::way(std::int64_t most_tokens) const {
  if (ranks == 1) return EpWay::gather;  // nobody to exchange with
  return options.way == EpWay::automatic ? ep::choose_way(sizes(most_tokens)) : options.way;
}

Status EpGroup::State::nccl_status(ep::nccl::Code code, const char* call) const {
  if (code == 0) return {};
  return {StatusCode::device_error, api::join(call, ": ", nccl->get_error_string(code))};
}

void EpGroup::State::post() const {
  const std::int64_t begun = ++calls;
  if (options.board.post != nullptr) options.board.post(options.board.context, rank, begun);
}

void EpGroup::State::abort() const {
  if (!aborted.exchange(true)) nccl->comm_abort(comm);
}

Status EpGroup::State::await_stream(cudaStream_t stream, ep::Clock::time_point until, std::int64_t calls_expected,
                                    const char* what) const {
  const auto begin = ep::Clock::now();
  for (;;) {
    const cudaError_t state = cudaStreamQuery(stream);
    if (state == cudaSuccess) return {};
    if (state != cudaErrorNotReady) {
      abort();
      return ep::cuda_status(state, what);
    }
    ep::nccl::Code error = 0;
    nccl->comm_get_async_error(comm, &error);
    const bool failed = error != 0 && error != ep::nccl::kInProgress;
    if (failed || ep::Clock::now() >= until) {
      const std::string who = ep::blame(options.board, ranks, calls_expected);
      abort();
      if (failed) return {StatusCode::device_error, api::join(what, ": ", nccl->get_error_string(error), "; ", who)};
      const auto waited = std::chrono::duration_cast<std::chrono::milliseconds>(ep::Clock::now() - begin).count();
      return {StatusCode::device_error, api::join(what, ": not done after ", waited, " ms; ", who)};
    }
    std::this_thread::sleep_for(ep::kPoll);
  }
}

}  // namespace blockmoe
