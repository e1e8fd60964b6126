// api_fake_backend.hpp: backends that count what reaches them and compute nothing. Linking api_fake_backend.cpp replaces
// the library's own table of backends (src/api/backends.hpp).
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>

#include "api/backend.hpp"

namespace blockmoe::test {

/// The fake plan of every fake backend needs this much.
inline constexpr std::size_t kWorkspaceBytes = 4096;
/// The fake run() writes this into every element of the output.
inline constexpr std::uint16_t kWritten = 0x1234;

struct FakeBackends {
  std::atomic<int> plans = 0;
  std::atomic<int> binds = 0;
  std::atomic<int> runs = 0;
  std::size_t workspace_bytes = kWorkspaceBytes;
  Status run_status;          // what run() returns; it writes the output only when ok
  std::string thrown;         // not empty: run() throws std::runtime_error; "bad_alloc": std::bad_alloc
  api::PlanRequest request;   // of the last plan()
  contract::Weights weights;  // of the last run()
  contract::Activations activations;
  contract::Picks picks;         // of the last run_prerouted()
  contract::RoutedPicks routed;  // of the last route()
  void* workspace = nullptr;
  Stream stream = nullptr;
  std::mutex last;  // guards the record of the last call
};

/// Fresh for each test that calls reset_fakes().
FakeBackends& fakes();
void reset_fakes();

}  // namespace blockmoe::test
