#include "api_fake_backend.hpp"

#include <array>
#include <memory>
#include <new>
#include <stdexcept>

#include "api/backends.hpp"

namespace blockmoe::test {
namespace {

std::unique_ptr<FakeBackends>& instance() {
  static auto fakes = std::make_unique<FakeBackends>();
  return fakes;
}

Result<api::BackendPlan> plan(const api::PlanRequest& request, const char* path) {
  ++fakes().plans;
  fakes().request = request;
  const WorkspaceNeed need = {fakes().workspace_bytes, 256, WorkspaceInit::zeroed_once};
  return api::BackendPlan{path, "a fake\n", need, nullptr, "", ""};
}

Result<api::BackendBinding> bind(const api::PlanRequest&, const api::BackendPlan&, const contract::Weights&) {
  ++fakes().binds;
  return api::BackendBinding{};
}

Status run(const api::PlanRequest& request, const api::BackendPlan&, const api::BackendBinding&,
           const contract::Weights& weights, const contract::Activations& call, void* workspace, Stream stream) {
  ++fakes().runs;
  if (fakes().thrown == "bad_alloc") throw std::bad_alloc();
  if (!fakes().thrown.empty()) throw std::runtime_error(fakes().thrown);
  if (!fakes().run_status.ok()) return fakes().run_status;
  {
    const std::scoped_lock lock(fakes().last);
    fakes().weights = weights;
    fakes().activations = call;
    fakes().workspace = workspace;
    fakes().stream = stream;
  }
  for (std::int64_t token = 0; token < call.tokens; ++token) {
    for (std::int64_t column = 0; column < request.geometry.hidden; ++column) {
      static_cast<std::uint16_t*>(call.output)[token * call.output_pitch + column] = kWritten;
    }
  }
  return {};
}

Status run_prerouted(const api::PlanRequest& request, const api::BackendPlan& plan, const api::BackendBinding& binding,
                     const contract::Weights& weights, const contract::Activations& call, const contract::Picks& picks,
                     void* workspace, Stream stream) {
  fakes().picks = picks;
  return run(request, plan, binding, weights, call, workspace, stream);
}

Status route(const api::PlanRequest&, const api::BackendPlan&, const api::BackendBinding&, const contract::Weights&,
             const contract::Activations& call, const contract::RoutedPicks& picks, Stream stream) {
  ++fakes().runs;
  fakes().activations = call;
  fakes().routed = picks;
  fakes().stream = stream;
  return {};
}

constexpr api::BackendEntry kHopper = {Backend::hopper,
                                       "hopper",
                                       DeviceType::cuda,
                                       [](const api::PlanRequest& request, std::string* why_not) {
                                         *why_not = "it needs sm_90";
                                         return request.device.compute_capability == 90;
                                       },
                                       [](const api::PlanRequest& request) { return plan(request, "hopper/fake"); },
                                       bind,
                                       run,
                                       nullptr,
                                       nullptr};

constexpr api::BackendEntry kPortable = {Backend::portable,
                                         "portable",
                                         DeviceType::cuda,
                                         [](const api::PlanRequest& request, std::string* why_not) {
                                           *why_not = "it needs sm_80 or later";
                                           return request.device.compute_capability >= 80;
                                         },
                                         [](const api::PlanRequest& request) { return plan(request, "portable/fake"); },
                                         bind,
                                         run,
                                         nullptr,
                                         nullptr};

constexpr api::BackendEntry kCpu = {Backend::cpu,
                                    "cpu",
                                    DeviceType::cpu,
                                    [](const api::PlanRequest&, std::string*) { return true; },
                                    [](const api::PlanRequest& request) { return plan(request, "cpu/fake"); },
                                    bind,
                                    run,
                                    run_prerouted,
                                    route};

}  // namespace

FakeBackends& fakes() {
  return *instance();
}

void reset_fakes() {
  instance() = std::make_unique<FakeBackends>();
}

}  // namespace blockmoe::test

namespace blockmoe::api {

std::span<const BackendEntry> backends() {
  static const std::array rows = {test::kHopper, test::kPortable, test::kCpu};
  return rows;
}

}  // namespace blockmoe::api
