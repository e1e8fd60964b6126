// absent.cpp: EpGroup in a build without CUDA: create() says so, and nobody has a group to call the rest on.
#include <cstdlib>
#include <utility>

#include "blockmoe/expert_parallel.hpp"

namespace blockmoe {

struct EpGroup::State {};
struct BoundEpGroup::State {};

EpGroup::EpGroup(std::shared_ptr<const State> state) : state_(std::move(state)) {}
BoundEpGroup::BoundEpGroup(std::shared_ptr<const State> state) : state_(std::move(state)) {}

Result<EpGroup> EpGroup::create(const Geometry&, std::int64_t, const DeviceInfo&, void*, const EpOptions&,
                                const Options&) {
  return Status(StatusCode::unsupported, "device: this build has no GPU backends, and NCCL connects CUDA devices");
}

std::int32_t EpGroup::rank() const {
  std::abort();
}
std::int32_t EpGroup::ranks() const {
  std::abort();
}
WorkspaceNeed EpGroup::workspace() const {
  std::abort();
}
const std::string& EpGroup::explain() const {
  std::abort();
}
EpWay EpGroup::way(std::int64_t) const {
  std::abort();
}
Status EpGroup::check(Stream, std::int32_t) const {
  std::abort();
}
Result<BoundEpGroup> EpGroup::bind(const Weights&) const {
  std::abort();
}
Status BoundEpGroup::run(const Activations&, const Tensor&, const Workspace&, Stream, std::int64_t) const {
  std::abort();
}

}  // namespace blockmoe
