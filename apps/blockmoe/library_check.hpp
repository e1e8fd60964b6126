// library_check.hpp: runs this library on a workload and holds its output to the oracle.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "call.hpp"
#include "measurement.hpp"
#include "options.hpp"
#include "progress.hpp"
#include "verify/compare.hpp"
#include "verify/oracle.hpp"
#include "workload/inputs.hpp"

namespace blockmoe::cli {

class LibraryCheck {
 public:
  // Without a scope: full on a GPU, where it takes seconds, sample on the CPU.
  LibraryCheck(const BackendOptions& backend, const DrawOptions& draw, std::optional<verify::OracleScope> scope,
               const verify::Tolerance& tolerance);

  // Passes when the output is within the tolerance and the gates of its backend, and repeated calls give the same bits. A
  // pruned call is held to the oracle's layer without the dropped picks; what they were worth is measured beside.
  // Throws InputError or RunError.
  Measurement measure(const workload::Workload& given, Progress& progress);

  const DeviceInfo& device() const { return device_; }

  // What the outputs are compared with, for the report.
  std::string reference() const;

  // The gates of the backend that ran last.
  const verify::Gates& gates() const { return gates_; }

  // What the last latency is the median of.
  const std::string& timing() const { return timing_; }

  // Tokens of unusual routing (verify/oracle.hpp) in all rows so far, and how many of them were checked.
  struct Unusual {
    std::int64_t tokens = 0;
    std::int64_t checked = 0;
  };
  const Unusual& unusual() const { return unusual_; }

  // What a reader of the report must know: sentences of all rows so far, each once.
  std::vector<std::string> notes() const;

 private:
  PruningCost pruning_cost(const workload::Inputs& inputs, const CallResult& call, std::int64_t rows) const;
  void keep_notes(const std::vector<std::string>& notes);

  DeviceInfo device_;
  DrawOptions draw_;
  verify::OracleOptions oracle_options_;
  verify::Tolerance tolerance_;
  bool two_terms_;  // of an intermediate value
  verify::Gates gates_ = verify::kCpuGates;
  workload::InputMaker maker_;
  Caller caller_;
  std::string timing_;
  Unusual unusual_;
  std::vector<std::string> notes_;
};

}  // namespace blockmoe::cli
