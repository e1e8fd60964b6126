// workload.hpp: what to run: rows of a JSONL file, in either of two forms.
//
// Flat, one object a line; every key but `uuid` and `T` may be left out:
//
//   {"uuid": "e05c6c03", "T": 1, "split": "dev", "local_expert_offset": 32, "routed_scaling_factor": 2.5, "seed": 7,
//    "weights_seed": 0, "agent_latency_us": 108.0, "baseline_latency_us": 203.0, "definition": NAME,
//    "geometry": {"hidden": 256, ...}, "inputs": {...}, ...}
//
// Nested, as flashinfer-bench stores workloads and traces (its keys `solution` and `evaluation` are kept, not read):
//
//   {"definition": NAME, "workload": {"uuid": ..., "axes": {"seq_len": 1}, "inputs": {TENSOR: SOURCE, ...}}, ...}
//   SOURCE = {"type": "random"} | {"type": "scalar", "value": 2.5}
//          | {"type": "safetensors", "path": FILE, "tensor_key": KEY}      FILE is relative to the data set's root
//
// Blank lines are skipped. Unknown keys are kept for command templates (`values`).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "blockmoe/status.hpp"
#include "contract/geometry.h"

namespace blockmoe::workload {

/// Where a tensor of a row comes from when it is not drawn.
struct FileReference {
  std::string path;        ///< relative to the data set's root, or absolute
  std::string tensor_key;  ///< the tensor's name in the safetensors file
};

/// One row.
struct Workload {
  std::string uuid;
  std::int64_t tokens = 0;  ///< T, 0..2^30
  std::string split = "dev";
  std::string definition;  ///< name of the definition; empty where the row has none
  contract::Geometry geometry;
  std::int32_t local_expert_offset = 0;
  float routed_scaling_factor = 2.5F;
  std::uint64_t seed = 0;          ///< of logits, bias and activations; a hash of the uuid where the row has none
  std::uint64_t weights_seed = 0;  ///< of weights and their scales; rows that share it share their weights
  std::optional<double> agent_latency_us;
  std::optional<double> baseline_latency_us;
  std::map<std::string, FileReference> files;  ///< by tensor name; tensors that are not here are drawn
  std::string not_in_dataset;  ///< a sentence, where the data set was searched for the row's files and has no such row

  /// What a command template may name: every key of the row (of a nested row also those of `workload`, its axes and its
  /// scalar inputs), `T`, `split`, `seed`, and `workload_json`, the row's own text. Strings stand without quotes,
  /// numbers as JSON writes them, objects and arrays as compact JSON, null as nothing.
  std::map<std::string, std::string> values;
  int line = 0;  ///< in its file, from 1
};

/// Longest line and largest file that are read.
inline constexpr std::size_t kMaxLineBytes = std::size_t{1} << 20;
inline constexpr std::size_t kMaxFileBytes = std::size_t{1} << 28;

/// The data set's root: the environment's FIB_DATASET_PATH, or empty.
std::string dataset_root();

/// Reads all rows. A definition that a row names is the built-in one (definition.hpp), or is read from
/// `<root>/definitions/*/<name>.json` or from `<name>.json` beside the JSONL file, in this order.
///
/// Errors are `invalid_argument` and begin with "FILE: " or "FILE:LINE: ", then name the key, what it is and what it must be. A uuid
/// that stands in the file twice is an error; so is a file without rows.
Result<std::vector<Workload>> read_workloads(const std::string& path, const std::string& root = dataset_root());

/// The same from text. `name` stands for the file in messages; `folder` is where definitions are looked for besides
/// `root` (either may be empty: then they are not looked for there).
Result<std::vector<Workload>> parse_workloads(std::string_view text, const std::string& name, const std::string& folder,
                                              const std::string& root);

}  // namespace blockmoe::workload
