// call.hpp: the operator as a user's program would call it, repeated to learn what a call takes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <string>

#include "blockmoe/moe.hpp"
#include "verify/oracle.hpp"
#include "workload/inputs.hpp"

namespace blockmoe::cli {

// Host memory that grows and is used again; what it holds after a growth is undefined.
class HostBuffer {
 public:
  std::byte* reserve(std::size_t bytes, std::size_t alignment);
  // Every byte 0xff: NaN to whoever reads a float there.
  void poison(std::size_t bytes);
  std::byte* data() const { return memory_.get(); }

 private:
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  std::unique_ptr<std::byte, Free> memory_;
  std::size_t capacity_ = 0;
  std::size_t alignment_ = 0;
};

// Times of whole calls, routing to combine, weights bound before.
struct CallTimes {
  double median_us = 0;
  double min_us = 0;
  double max_us = 0;
  int runs = 0;
  std::string how;  // what was timed, for the report
};

struct CallResult {
  std::string path;  // Plan::path(), and of its products
  std::string gemm1_path;
  std::string gemm2_path;
  Backend backend = Backend::cpu;
  std::span<const std::uint16_t> output;  // [T, H] bf16; valid until the next call
  CallTimes times;
  bool repeatable = true;  // the last of the timed calls gave the first call's bits
};

class GpuCaller;

class Caller {
 public:
  Caller(const DeviceInfo& device, const Options& options);
  ~Caller();

  // One call on poisoned memory, whose output is the result's, then timed calls: 3, more while they are short,
  // fewer where they take seconds. Throws InputError or RunError.
  CallResult call(const workload::Inputs& inputs);

  // Where the oracle's products on the last call's inputs are computed: on the GPU, or empty for this CPU.
  verify::ExpertRowsElsewhere oracle_products() const;

 private:
  CallResult call_on_cpu(const workload::Inputs& inputs);
  Workspace workspace_for(const Plan& plan);

  DeviceInfo device_;
  Options options_;
  std::unique_ptr<GpuCaller> gpu_;  // null on the CPU
  HostBuffer workspace_;
  HostBuffer first_output_;
  HostBuffer timed_output_;
};

}  // namespace blockmoe::cli
