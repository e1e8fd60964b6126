// library_check.hpp: runs this library on a workload and holds its output to the oracle.
#pragma once

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
  LibraryCheck(const BackendOptions& backend, const DrawOptions& draw, verify::OracleScope scope,
               const verify::Tolerance& tolerance);

  // Passes when the output is within the tolerance and the gates of its backend, and repeated calls give the same bits.
  // Throws InputError or RunError.
  Measurement measure(const workload::Workload& given, Progress& progress);

  // What the outputs are compared with, for the report.
  std::string reference() const;

  // The gates of the backend that ran last.
  const verify::Gates& gates() const { return gates_; }

  // What the last latency is the median of.
  const std::string& timing() const { return timing_; }

  // What a reader of the report must know: sentences of all rows so far, each once.
  const std::vector<std::string>& notes() const { return notes_; }

 private:
  void keep_notes(const std::vector<std::string>& notes);

  DrawOptions draw_;
  verify::OracleOptions oracle_options_;
  verify::Tolerance tolerance_;
  verify::Gates gates_ = verify::kCpuGates;
  workload::InputMaker maker_;
  Caller caller_;
  std::string timing_;
  std::vector<std::string> notes_;
};

}  // namespace blockmoe::cli
