// call_gpu.hpp: Caller's work on a CUDA device, and the oracle's products there. In a build without CUDA no device gets
// this far: query_device() refuses it.
#pragma once

#include <memory>

#include "blockmoe/moe.hpp"
#include "call.hpp"
#include "verify/oracle.hpp"
#include "workload/inputs.hpp"

namespace blockmoe::cli {

class GpuCaller {
 public:
  GpuCaller(const DeviceInfo& device, const Options& options);
  ~GpuCaller();

  // As Caller::call(); the times are those of a replayed graph on a flushed L2.
  CallResult call(const workload::Inputs& inputs);

  // FP64 products on the inputs of the last call().
  verify::ExpertRowsElsewhere oracle_products() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace blockmoe::cli
