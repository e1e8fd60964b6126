#include "workload/workload.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <unordered_map>
#include <utility>

#include "workload/definition.hpp"
#include "workload/error.hpp"
#include "workload/file.hpp"
#include "workload/json.hpp"

namespace blockmoe::workload {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxUuid = 200;

// Tensors that a row may take from a file. The operator's two scalars are not among them.
constexpr std::array<std::string_view, 8> kTensors = {
    "routing_logits", "routing_bias",        "hidden_states", "hidden_states_scale",
    "gemm1_weights",  "gemm1_weights_scale", "gemm2_weights", "gemm2_weights_scale"};

// Finds definitions by name; each is read once.
class Definitions {
 public:
  Definitions(std::string folder, std::string root) : folder_(std::move(folder)), root_(std::move(root)) {
    Definition official;
    official.name = kOfficialDefinition;
    official.tokens_axis = "seq_len";
    known_.emplace(official.name, official);
  }

  Result<Definition> find(const std::string& name) {
    if (const auto known = known_.find(name); known != known_.end()) return known->second;
    // The name becomes a file's name, so nothing in it may lead elsewhere.
    const bool plain = !name.empty() && name.size() <= kMaxUuid && name.front() != '.' &&
                       name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") ==
                           std::string::npos;
    if (!plain) return invalid("definition: is {}, expected letters, digits, '.', '_' and '-'", in_quotes(name));
    for (const fs::path& path : places(name + ".json")) {
      std::error_code ignored;
      if (!fs::is_regular_file(path, ignored)) continue;
      auto definition = read_definition(path.string());
      if (definition.ok()) known_.emplace(name, definition.value());
      return definition;
    }
    return invalid("definition: \"{}\" is not built in, and {}.json is neither in the data set nor beside this file",
                   name, name);
  }

 private:
  std::vector<fs::path> places(const std::string& file) const {
    std::vector<fs::path> found;
    std::error_code ignored;
    if (!root_.empty()) {
      for (const fs::directory_entry& type : fs::directory_iterator(fs::path(root_) / "definitions", ignored)) {
        found.push_back(type.path() / file);
      }
      std::sort(found.begin(), found.end());
    }
    if (!folder_.empty()) found.push_back(fs::path(folder_) / file);
    return found;
  }

  std::string folder_;
  std::string root_;
  std::unordered_map<std::string, Definition> known_;
};

// FNV-1a: a row without a seed still draws its own numbers, the same everywhere.
std::uint64_t hash_of(const std::string& text) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

std::string template_text(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  return value.is_null() ? std::string() : value.dump();
}

void keep_values(const Json& object, std::map<std::string, std::string>& values) {
  for (const auto& [key, value] : object.items()) values[key] = template_text(value);
}

// Reads `key` of `object` into `field` where it is there. `read` is one of json.hpp's functions.
template <typename T, typename Read>
Status optional(const Json& object, const std::string& key, const std::string& place, T& field, const Read& read) {
  const auto found = object.find(key);
  if (found == object.end()) return {};
  auto value = read(*found, place);
  if (!value.ok()) return value.status();
  field = static_cast<T>(std::move(value).value());
  return {};
}

template <typename T>
auto integer_in(T least, T most) {
  return [least, most](const Json& value, const std::string& place) { return integer_of(value, place, least, most); };
}

Result<std::int32_t> offset_of(const Json& value, const std::string& place) {
  using Limits = std::numeric_limits<std::int32_t>;
  const auto number = integer_of(value, place, Limits::min(), Limits::max());
  if (!number.ok()) return number.status();
  return static_cast<std::int32_t>(number.value());
}

Result<float> factor_of(const Json& value, const std::string& place) {
  const auto number = number_of(value, place);
  if (!number.ok()) return number.status();
  if (!(std::fabs(number.value()) <= static_cast<double>(std::numeric_limits<float>::max()))) {
    return invalid("{}: is {}, expected a number that a float can hold", place, describe(value));
  }
  return static_cast<float>(number.value());
}

// A time in microseconds, or null for "not measured".
Status read_latency(const Json& row, const std::string& key, std::optional<double>& field) {
  const auto found = row.find(key);
  if (found == row.end() || found->is_null()) return {};
  const auto number = number_of(*found, key);
  if (!number.ok()) return number.status();
  if (!(number.value() >= 0)) return invalid("{}: is {}, expected at least 0", key, describe(*found));
  field = number.value();
  return {};
}

Status read_uuid(const Json& holder, std::string& uuid) {
  const auto found = holder.find("uuid");
  if (found == holder.end()) return invalid("uuid: is not there");
  auto text = string_of(*found, "uuid");
  if (!text.ok()) return text.status();
  uuid = std::move(text).value();
  const bool printable = std::all_of(uuid.begin(), uuid.end(), [](unsigned char c) { return c > 0x20 && c < 0x7f; });
  if (uuid.empty() || uuid.size() > kMaxUuid || !printable) {
    return invalid("uuid: is {}, expected 1 to {} printable ASCII characters without spaces", describe(*found),
                   kMaxUuid);
  }
  return {};
}

Status read_tokens(const Json& holder, const std::string& key, const std::string& place, std::int64_t& tokens) {
  const auto found = holder.find(key);
  if (found == holder.end()) return invalid("{}: is not there", place);
  return optional(holder, key, place, tokens, integer_in<std::int64_t>(0, contract::kMaxTokens));
}

Result<FileReference> file_reference(const Json& source, const std::string& place) {
  FileReference reference;
  const std::pair<const char*, std::string*> fields[] = {{"path", &reference.path},
                                                         {"tensor_key", &reference.tensor_key}};
  for (const auto& [key, field] : fields) {
    if (Status status = optional(source, key, place + "." + key, *field, string_of); !status.ok()) return status;
    if (field->empty()) return invalid("{}.{}: is not there or empty, expected a string", place, key);
  }
  const auto control = [](unsigned char c) { return c < 0x20 || c == 0x7f; };
  if (std::any_of(reference.path.begin(), reference.path.end(), control)) {
    return invalid("{}.path: is {}, expected no control characters", place, in_quotes(reference.path));
  }
  return reference;
}

// One entry of `inputs`.
Status read_source(const std::string& name, const Json& source, Workload& row) {
  const bool is_offset = name == "local_expert_offset";
  const bool is_scalar = is_offset || name == "routed_scaling_factor";
  if (!is_scalar && std::find(kTensors.begin(), kTensors.end(), name) == kTensors.end()) {
    return invalid("inputs: {} is not a tensor of the operator", in_quotes(name));
  }
  const std::string place = "inputs." + name;
  if (Status status = expect_object(source, place); !status.ok()) return status;
  std::string type;
  if (Status status = optional(source, "type", place + ".type", type, string_of); !status.ok()) return status;

  if (is_scalar) {
    const auto value = source.find("value");
    if (type != "scalar" || value == source.end()) {
      return invalid(R"({}: expected {{"type": "scalar", "value": ...}})", place);
    }
    row.values[name] = template_text(*value);
    if (is_offset) return optional(source, "value", place + ".value", row.local_expert_offset, offset_of);
    return optional(source, "value", place + ".value", row.routed_scaling_factor, factor_of);
  }
  if (type == "random") return {};
  if (type != "safetensors") {
    return invalid(R"({}.type: is {}, expected "random" or "safetensors")", place, in_quotes(type));
  }
  auto reference = file_reference(source, place);
  if (!reference.ok()) return reference.status();
  row.files[name] = std::move(reference).value();
  return {};
}

Status read_sources(const Json& holder, Workload& row) {
  const auto inputs = holder.find("inputs");
  if (inputs == holder.end()) return {};
  if (Status status = expect_object(*inputs, "inputs"); !status.ok()) return status;
  for (const auto& [name, source] : inputs->items()) {
    if (Status status = read_source(name, source, row); !status.ok()) return status;
  }
  return {};
}

Status read_geometry(const Json& object, contract::Geometry& g) {
  if (Status status = expect_object(object, "geometry"); !status.ok()) return status;
  const std::pair<const char*, std::int64_t*> wide[] = {{"hidden", &g.hidden}, {"intermediate", &g.intermediate}};
  const std::pair<const char*, std::int32_t*> narrow[] = {{"experts", &g.experts},
                                                          {"local_experts", &g.local_experts},
                                                          {"top_k", &g.top_k},
                                                          {"n_group", &g.n_group},
                                                          {"topk_group", &g.topk_group}};
  const auto read = integer_in<std::int64_t>(1, contract::kMaxWidth);
  std::size_t known = 0;
  const auto read_all = [&](const auto& fields) {
    for (const auto& [key, field] : fields) {
      known += object.count(key);
      if (Status status = optional(object, key, std::string("geometry.") + key, *field, read); !status.ok())
        return status;
    }
    return Status();
  };
  if (Status status = read_all(wide); !status.ok()) return status;
  if (Status status = read_all(narrow); !status.ok()) return status;
  if (known != object.size()) {
    return invalid(
        "geometry: has a key besides hidden, intermediate, experts, local_experts, top_k, n_group and topk_group");
  }
  if (Status status = check_geometry(g); !status.ok()) {
    return {status.code(), "geometry." + status.message()};
  }
  return {};
}

// What both forms keep beside uuid, T and inputs.
Status read_common(const Json& row, Workload& workload) {
  if (Status s = optional(row, "split", "split", workload.split, string_of); !s.ok()) return s;
  workload.seed = hash_of(workload.uuid);
  if (Status s = optional(row, "seed", "seed", workload.seed, unsigned_of); !s.ok()) return s;
  if (Status s = optional(row, "weights_seed", "weights_seed", workload.weights_seed, unsigned_of); !s.ok()) return s;
  if (Status s = read_latency(row, "agent_latency_us", workload.agent_latency_us); !s.ok()) return s;
  return read_latency(row, "baseline_latency_us", workload.baseline_latency_us);
}

Status read_definition_name(const Json& row, Definitions& definitions, Workload& workload, std::string& tokens_axis) {
  if (Status s = optional(row, "definition", "definition", workload.definition, string_of); !s.ok()) return s;
  const auto definition = definitions.find(workload.definition);
  if (!definition.ok()) return definition.status();
  workload.geometry = definition.value().geometry;
  tokens_axis = definition.value().tokens_axis;
  return {};
}

Status read_flat(const Json& row, Definitions& definitions, Workload& workload) {
  keep_values(row, workload.values);
  if (Status s = read_uuid(row, workload.uuid); !s.ok()) return s;
  if (Status s = read_tokens(row, "T", "T", workload.tokens); !s.ok()) return s;
  if (Status s = read_common(row, workload); !s.ok()) return s;
  const auto geometry = row.find("geometry");
  if (row.contains("definition")) {
    if (geometry != row.end()) return invalid("geometry: stands beside a definition, expected one of them");
    std::string tokens_axis;
    if (Status s = read_definition_name(row, definitions, workload, tokens_axis); !s.ok()) return s;
  } else if (geometry != row.end()) {
    if (Status s = read_geometry(*geometry, workload.geometry); !s.ok()) return s;
  }
  if (Status s = read_sources(row, workload); !s.ok()) return s;
  if (Status s = optional(row, "local_expert_offset", "local_expert_offset", workload.local_expert_offset, offset_of);
      !s.ok()) {
    return s;
  }
  return optional(row, "routed_scaling_factor", "routed_scaling_factor", workload.routed_scaling_factor, factor_of);
}

Status read_nested(const Json& row, Definitions& definitions, Workload& workload) {
  const Json& inner = *row.find("workload");
  if (Status s = expect_object(inner, "workload"); !s.ok()) return s;
  keep_values(row, workload.values);
  keep_values(inner, workload.values);
  if (Status s = read_uuid(inner, workload.uuid); !s.ok()) return s;
  if (Status s = read_common(row, workload); !s.ok()) return s;
  if (!row.contains("definition")) return invalid("definition: is not there");
  std::string tokens_axis;
  if (Status s = read_definition_name(row, definitions, workload, tokens_axis); !s.ok()) return s;
  const auto axes = inner.find("axes");
  if (axes == inner.end()) return invalid("axes: is not there");
  if (Status s = expect_object(*axes, "axes"); !s.ok()) return s;
  keep_values(*axes, workload.values);
  if (Status s = read_tokens(*axes, tokens_axis, "axes." + tokens_axis, workload.tokens); !s.ok()) return s;
  return read_sources(inner, workload);
}

Result<Workload> parse_row(std::string_view text, Definitions& definitions) {
  const auto row = parse_object(text);
  if (!row.ok()) return row.status();
  Workload workload;
  const bool nested = row.value().contains("workload");
  if (Status status =
          nested ? read_nested(row.value(), definitions, workload) : read_flat(row.value(), definitions, workload);
      !status.ok()) {
    return status;
  }
  workload.values["uuid"] = workload.uuid;
  workload.values["T"] = std::to_string(workload.tokens);
  workload.values["split"] = workload.split;
  workload.values["seed"] = std::to_string(workload.seed);
  workload.values["workload_json"] = std::string(text);
  return workload;
}

std::string_view trimmed(std::string_view line) {
  constexpr std::string_view kBlank = " \t\r";
  const std::size_t first = line.find_first_not_of(kBlank);
  if (first == std::string_view::npos) return {};
  return line.substr(first, line.find_last_not_of(kBlank) - first + 1);
}

// A flat row that names a definition and no files is the same shape as the data set's row of that definition whose uuid begins
// with the row's: its logits and bias, offset and factor are used where the data set is there.
Status adopt_files(std::vector<Workload>& rows, const std::string& root) {
  std::map<std::string, std::vector<Workload>> of_definition;
  for (Workload& row : rows) {
    if (row.definition.empty() || !row.files.empty() || row.values.contains("workload")) continue;
    auto known = of_definition.find(row.definition);
    if (known == of_definition.end()) {
      known = of_definition.emplace(row.definition, std::vector<Workload>()).first;
      std::error_code ignored;
      for (const fs::directory_entry& type : fs::directory_iterator(fs::path(root) / "workloads", ignored)) {
        const fs::path path = type.path() / (row.definition + ".jsonl");
        if (!fs::is_regular_file(path, ignored)) continue;
        const auto text = read_file(path.string(), kMaxFileBytes);
        if (!text.ok()) return text.status();
        auto official = parse_workloads(text.value(), path.string(), "", root);
        if (!official.ok()) return official.status();
        known->second = std::move(official).value();
      }
    }
    row.not_in_dataset = fmt::format("{} has no row of {} with T = {} whose uuid begins with {}", root, row.definition,
                                     row.tokens, row.uuid);
    for (const Workload& official : known->second) {
      if (official.tokens != row.tokens || official.uuid.compare(0, row.uuid.size(), row.uuid) != 0) continue;
      row.not_in_dataset.clear();
      row.files = official.files;
      row.local_expert_offset = official.local_expert_offset;
      row.routed_scaling_factor = official.routed_scaling_factor;
    }
  }
  return {};
}

}  // namespace

std::string dataset_root() {
  const char* root = std::getenv("FIB_DATASET_PATH");
  return root == nullptr ? std::string() : std::string(root);
}

Result<std::vector<Workload>> parse_workloads(std::string_view text, const std::string& name, const std::string& folder,
                                              const std::string& root) {
  Definitions definitions(folder, root);
  std::vector<Workload> rows;
  std::unordered_map<std::string, int> line_of;
  int number = 0;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = trimmed(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    ++number;
    if (line.empty()) continue;
    const std::string place = fmt::format("{}:{}", name, number);
    if (line.size() > kMaxLineBytes)
      return at(place, invalid("{} bytes, expected at most {}", line.size(), kMaxLineBytes));
    auto row = parse_row(line, definitions);
    if (!row.ok()) return at(place, row.status());
    const auto [first, is_new] = line_of.emplace(row.value().uuid, number);
    if (!is_new) return at(place, invalid("uuid: \"{}\" stands in line {} already", row.value().uuid, first->second));
    rows.push_back(std::move(row).value());
    rows.back().line = number;
  }
  if (rows.empty()) return at(name, invalid("no workloads, expected a JSON object a line"));
  return rows;
}

Result<std::vector<Workload>> read_workloads(const std::string& path, const std::string& root) {
  const auto text = read_file(path, kMaxFileBytes);
  if (!text.ok()) return text.status();
  auto rows = parse_workloads(text.value(), path, fs::path(path).parent_path().string(), root);
  if (!rows.ok() || root.empty()) return rows;
  if (Status status = adopt_files(rows.value(), root); !status.ok()) return status;
  return rows;
}

}  // namespace blockmoe::workload
