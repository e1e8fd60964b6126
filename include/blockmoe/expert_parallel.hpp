// expert_parallel.hpp: the whole layer over several GPUs: N ranks, each with some of the experts and with tokens of its own.
//
//   auto group = blockmoe::EpGroup::create(layer, /*max_tokens=*/4096, device, nccl_comm);   // on every rank, once a model
//   auto bound = group.value().bind(weights);                                                // its experts; once a layer
//   ... allocate group.value().workspace().bytes ...
//   blockmoe::Status status = bound.value().run(activations, output, {memory, bytes}, stream, most_tokens);
//
// Every rank calls run() with its own tokens, T of them, 0 too, and gets their rows, summed over all ranks in fp32, in the order
// of the ranks, and rounded once: same inputs, same bits. Transport is NCCL (2.28 or later, libnccl.so.2, loaded at the first
// create()) on the caller's communicator. CUDA alone. docs/expert-parallel.md says how it works and what it costs.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "blockmoe/moe.hpp"

namespace blockmoe {

namespace ep {
struct Access;
}

/// How tokens and experts meet. Both give the contract's result; their bits may differ, as two tilings' do.
enum class EpWay : std::int32_t {
  automatic = 0,  ///< by the cost model, for each call by its most_tokens
  gather = 1,     ///< one all-gather of all ranks' tokens, one call of the operator, and the parts back: few launches
  exchange = 2,   ///< tokens and parts from rank to rank in pieces, on a stream beside the products
};

/// Where ranks tell each other, on the host, how far they are, so that an error can name the one that is missing. Any store
/// that all ranks reach: an array of atomics between threads, a key-value store between processes. One board a group.
struct EpBoard {
  void* context = nullptr;
  /// This rank has begun its call number `calls` (create() is the first). Called by create() and by each run().
  void (*post)(void* context, std::int32_t rank, std::int64_t calls) = nullptr;
  /// The last number that `rank` posted, 0 before. Must not wait.
  std::int64_t (*read)(void* context, std::int32_t rank) = nullptr;
};

/// ncclConfig_t's maxCTAs (ncclCommInitRankConfig) that suits the communicator of a group whose way is `exchange`. NCCL's kernels
/// hold a multiprocessor a channel while they run beside the products; with this many, messages are still hidden by the products. Not for
/// `gather`, where nothing runs beside a message and fewer channels make it longer; docs/expert-parallel.md has both
inline constexpr std::int32_t kEpExchangeCtas = 16;

struct EpOptions {
  std::uint32_t struct_size = sizeof(EpOptions);
  EpWay way = EpWay::automatic;
  /// Pieces that the other ranks' tokens of an exchange come in, 1..8; 0 = the library's choice, by most_tokens. More hide more and
  /// make the products' calls shorter
  std::int32_t pieces = 0;
  /// Multiprocessors that an exchange leaves to NCCL while products run beside its messages, at least; NCCL's kernels start
  /// first, and the products take what they leave free until they end
  std::int32_t comm_sms = 0;
  /// 1: an exchange runs on the caller's stream alone, nothing beside anything: what the overlap is measured against
  std::int32_t serial = 0;
  std::int32_t timeout_ms = 0;  ///< of create(), for the other ranks to come; 0 = 30000
  /// [L] in host memory, read by create(): global number of each of this rank's experts. Null: rank * L + l. An expert may stand
  /// on several ranks, each at most once; token t of rank s then goes to owner (s + t) mod owners, in the order of their ranks
  const std::int32_t* expert_map = nullptr;
  EpBoard board;
};

class BoundEpGroup;

/// One rank's end of a group. Copies share one state. Calls of one group, of all its bound layers together, must be ordered, the
/// same on every rank; they share its communicator, its second stream and its events.
class BLOCKMOE_API EpGroup {
 public:
  /// `layer`: local_experts is L, of this rank; without a map every rank has E/N. `max_tokens`: the largest T of any rank,
  /// 1..2^24, the same on every rank. `nccl_comm`: an ncclComm_t of `device`, which must outlive the group. Every rank must call
  /// it; it waits for them, allocates a few KB on the device, makes a stream, and is no call to capture.
  ///
  /// `options`: pruning's min_weight_share must be 0 (a rank knows its own picks alone). All others but backend, max_sms and
  /// max_threads must be the same on every rank.
  ///
  /// invalid_argument: a field is out of its range, or differs among the ranks; the message has both values. unsupported: no
  /// CUDA in this build, no NCCL here or one that is too old, no backend for this device. device_error: a rank did not come in
  /// time; with a board, the message names it, and without one NCCL was asked already: the communicator was then aborted.
  static Result<EpGroup> create(const Geometry& layer, std::int64_t max_tokens, const DeviceInfo& device,
                                void* nccl_comm, const EpOptions& ep_options = EpOptions(),
                                const Options& options = Options());

  // Copies only: a group is never empty.
  EpGroup(const EpGroup&) = default;
  EpGroup& operator=(const EpGroup&) = default;
  ~EpGroup() = default;

  std::int32_t rank() const;
  std::int32_t ranks() const;
  WorkspaceNeed workspace() const;
  /// What runs and why, a line a decision; the cost model's figures for max_tokens.
  const std::string& explain() const;
  /// Never `automatic`: what a call of `most_tokens` runs.
  EpWay way(std::int64_t most_tokens) const;

  /// As Plan::bind. local_expert_offset must be rank * L, with a map 0.
  Result<BoundEpGroup> bind(const Weights& weights) const;

  /// Waits on the host until `stream` has passed all that is on it, for at most `timeout_ms`. device_error: it has not, or NCCL
  /// reports that a rank is gone; the message names the ranks that the board shows behind this one. The communicator was then
  /// aborted (ncclCommAbort), so that nothing hangs on it any more; it must not be used again, nor the group.
  Status check(Stream stream, std::int32_t timeout_ms) const;

  struct State;

 private:
  explicit EpGroup(std::shared_ptr<const State> state);
  std::shared_ptr<const State> state_;
  friend class BoundEpGroup;
  friend struct ep::Access;
};

class BLOCKMOE_API BoundEpGroup {
 public:
  BoundEpGroup(const BoundEpGroup&) = default;
  BoundEpGroup& operator=(const BoundEpGroup&) = default;
  ~BoundEpGroup() = default;

  /// One call: validates this rank's arguments, then only launches. No allocation of ours, no wait; after one call of its
  /// most_tokens and way (in which NCCL connects), safe under graph capture.
  ///
  /// `activations` and `output` as of BoundPlan::run, for this rank's T tokens, 0..most_tokens. `most_tokens`: at least every
  /// rank's T, at most max_tokens, and the same on every rank; 0 is max_tokens. Messages have room for that many tokens from
  /// each rank, so the time grows with it. When a rank's call is refused, the others wait for it: see check().
  Status run(const Activations& activations, const Tensor& output, const Workspace& workspace, Stream stream = nullptr,
             std::int64_t most_tokens = 0) const;

  struct State;

 private:
  explicit BoundEpGroup(std::shared_ptr<const State> state);
  std::shared_ptr<const State> state_;
  friend class EpGroup;
  friend struct ep::Access;
};

}  // namespace blockmoe
