#include "workload/definition.hpp"

#include <array>
#include <cstdint>
#include <limits>

#include "workload/error.hpp"
#include "workload/file.hpp"
#include "workload/json.hpp"

namespace blockmoe::workload {
namespace {

constexpr std::size_t kMaxDefinitionBytes = std::size_t{1} << 20;

// An argument of the operator as a definition writes it. "T" stands for the variable axis, whatever its name; an empty
// shape is a scalar.
struct Argument {
  const char* name;
  std::array<const char*, 3> shape;
  std::array<const char*, 2> types;
};

constexpr std::array<Argument, 11> kArguments = {{
    {"routing_logits", {"T", "num_experts", nullptr}, {"float32", "bfloat16"}},
    {"routing_bias", {"num_experts", nullptr, nullptr}, {"bfloat16", "float32"}},
    {"hidden_states", {"T", "hidden_size", nullptr}, {"float8_e4m3fn", "float8_e4m3"}},
    {"hidden_states_scale", {"num_hidden_blocks", "T", nullptr}, {"float32", nullptr}},
    {"gemm1_weights", {"num_local_experts", "gemm1_out_size", "hidden_size"}, {"float8_e4m3fn", "float8_e4m3"}},
    {"gemm1_weights_scale", {"num_local_experts", "num_gemm1_out_blocks", "num_hidden_blocks"}, {"float32", nullptr}},
    {"gemm2_weights", {"num_local_experts", "hidden_size", "intermediate_size"}, {"float8_e4m3fn", "float8_e4m3"}},
    {"gemm2_weights_scale",
     {"num_local_experts", "num_hidden_blocks", "num_intermediate_blocks"},
     {"float32", nullptr}},
    {"local_expert_offset", {}, {"int32", nullptr}},
    {"routed_scaling_factor", {}, {"float32", nullptr}},
    {"output", {"T", "hidden_size", nullptr}, {"bfloat16", nullptr}},
}};
constexpr const char* kOutput = "output";

Result<const Json*> member(const Json& object, const std::string& key, const std::string& place) {
  const auto found = object.find(key);
  if (found == object.end()) return invalid("{}: is not there", place);
  return &*found;
}

Result<const Json*> object_member(const Json& object, const std::string& key) {
  auto found = member(object, key, key);
  if (!found.ok()) return found;
  if (Status status = expect_object(*found.value(), key); !status.ok()) return status;
  return found;
}

// Value of a constant axis.
Result<std::int64_t> axis(const Json& axes, const std::string& name) {
  const std::string place = "axes." + name;
  const auto found = member(axes, name, place);
  if (!found.ok()) return found.status();
  const Json& entry = *found.value();
  if (Status status = expect_object(entry, place); !status.ok()) return status;
  if (entry.value("type", Json()) != "const") return invalid("{}.type: expected \"const\"", place);
  const auto value = member(entry, "value", place + ".value");
  if (!value.ok()) return value.status();
  return integer_of(*value.value(), place + ".value", 1, std::numeric_limits<std::int32_t>::max());
}

Result<std::string> variable_axis(const Json& axes) {
  std::string name;
  for (const auto& [key, entry] : axes.items()) {
    if (!entry.is_object() || entry.value("type", Json()) != "var") continue;
    if (!name.empty()) return invalid("axes: {} and {} are variable, expected one", in_quotes(name), in_quotes(key));
    name = key;
  }
  if (name.empty()) return invalid("axes: none is variable, expected one (the tokens)");
  return name;
}

// An axis that follows from others must have the value that follows.
Status expect_axis(const Json& axes, const std::string& name, std::int64_t expected) {
  const auto found = axis(axes, name);
  if (!found.ok()) return found.status();
  if (found.value() != expected) return invalid("axes.{}: is {}, expected {}", name, found.value(), expected);
  return {};
}

// The number after `tag` in a part of the name between underscores: "topk8" has 8 after "topk".
Result<std::int32_t> number_in_name(const std::string& name, std::string_view tag) {
  const std::string part_begin = fmt::format("_{}", tag);
  for (std::size_t at = name.find(part_begin); at != std::string::npos; at = name.find(part_begin, at + 1)) {
    std::int32_t number = 0;
    std::size_t digit = at + part_begin.size();
    const std::size_t first = digit;
    while (digit < name.size() && name[digit] >= '0' && name[digit] <= '9' && digit - first < 6) {
      number = number * 10 + (name[digit++] - '0');
    }
    if (digit > first && (digit == name.size() || name[digit] == '_')) return number;
  }
  return invalid("name: {} has no part \"{}N\" with a number N", in_quotes(name), tag);
}

Status check_argument(const Json& entry, const Argument& argument, const std::string& tokens_axis) {
  if (Status status = expect_object(entry, argument.name); !status.ok()) return status;
  Json expected = nullptr;
  for (const char* name : argument.shape) {
    if (name != nullptr) expected.push_back(name == std::string_view("T") ? tokens_axis : name);
  }
  const Json shape = entry.value("shape", Json("missing"));
  const bool scalar_as_empty = expected.is_null() && shape.is_array() && shape.empty();
  if (shape != expected && !scalar_as_empty) {
    return invalid("{}.shape: is {}, expected {}", argument.name, shape.dump(), expected.dump());
  }
  const Json type = entry.value("dtype", Json("missing"));
  for (const char* name : argument.types) {
    if (name != nullptr && type == name) return {};
  }
  return invalid("{}.dtype: is {}, expected \"{}\"", argument.name, describe(type), argument.types[0]);
}

Status check_arguments(const Json& root, const std::string& tokens_axis) {
  const auto inputs = object_member(root, "inputs");
  if (!inputs.ok()) return inputs.status();
  const auto outputs = object_member(root, "outputs");
  if (!outputs.ok()) return outputs.status();
  for (const Argument& argument : kArguments) {
    const bool is_output = argument.name == std::string_view(kOutput);
    const Json& holder = is_output ? *outputs.value() : *inputs.value();
    const auto entry = member(holder, argument.name, argument.name);
    if (!entry.ok()) return entry.status();
    if (Status status = check_argument(*entry.value(), argument, tokens_axis); !status.ok()) return status;
  }
  if (inputs.value()->size() != kArguments.size() - 1 || outputs.value()->size() != 1) {
    return invalid("inputs and outputs: {} and {} entries, expected {} and 1", inputs.value()->size(),
                   outputs.value()->size(), kArguments.size() - 1);
  }
  return {};
}

// Reads an axis or a number of the name into a field of the geometry.
template <typename T, typename Found>
Status store(T& field, const Result<Found>& found) {
  if (found.ok()) field = static_cast<T>(found.value());
  return found.status();
}

Result<contract::Geometry> geometry_of(const Json& axes, const std::string& name) {
  contract::Geometry g;
  const Status reads[] = {
      store(g.experts, axis(axes, "num_experts")),    store(g.local_experts, axis(axes, "num_local_experts")),
      store(g.hidden, axis(axes, "hidden_size")),     store(g.intermediate, axis(axes, "intermediate_size")),
      store(g.top_k, number_in_name(name, "topk")),   store(g.n_group, number_in_name(name, "ng")),
      store(g.topk_group, number_in_name(name, "kg"))};
  for (const Status& status : reads) {
    if (!status.ok()) return status;
  }
  if (Status status = check_geometry(g); !status.ok()) return status;
  const Status follow[] = {expect_axis(axes, "gemm1_out_size", 2 * g.intermediate),
                           expect_axis(axes, "num_hidden_blocks", g.hidden_blocks()),
                           expect_axis(axes, "num_intermediate_blocks", g.intermediate_blocks()),
                           expect_axis(axes, "num_gemm1_out_blocks", 2 * g.intermediate_blocks())};
  for (const Status& status : follow) {
    if (!status.ok()) return status;
  }
  return g;
}

Result<Definition> definition_of(const Json& root) {
  Definition definition;
  const auto name = member(root, "name", "name");
  if (!name.ok()) return name.status();
  if (Status status = store(definition.name, string_of(*name.value(), "name")); !status.ok()) return status;
  const auto axes = object_member(root, "axes");
  if (!axes.ok()) return axes.status();
  if (Status status = store(definition.tokens_axis, variable_axis(*axes.value())); !status.ok()) return status;
  if (Status status = store(definition.geometry, geometry_of(*axes.value(), definition.name)); !status.ok())
    return status;
  if (Status status = check_arguments(root, definition.tokens_axis); !status.ok()) return status;
  return definition;
}

}  // namespace

Result<Definition> parse_definition(std::string_view text, const std::string& name) {
  const auto root = parse_object(text);
  if (!root.ok()) return at(name, root.status());
  auto definition = definition_of(root.value());
  if (!definition.ok()) return at(name, definition.status());
  return definition;
}

Result<Definition> read_definition(const std::string& path) {
  const auto text = read_file(path, kMaxDefinitionBytes);
  if (!text.ok()) return text.status();
  return parse_definition(text.value(), path);
}

Status check_geometry(const contract::Geometry& g) {
  const auto within = [](const char* field, std::int64_t value, std::int64_t least, std::int64_t most) {
    if (value >= least && value <= most) return Status();
    return invalid("{}: is {}, expected {}..{}", field, value, least, most);
  };
  const auto blocks = [&](const char* field, std::int64_t value) {
    if (Status status = within(field, value, contract::kScaleBlock, contract::kMaxWidth); !status.ok()) return status;
    if (value % contract::kScaleBlock == 0) return Status();
    return invalid("{}: is {}, expected a multiple of {}", field, value, contract::kScaleBlock);
  };
  if (Status s = blocks("hidden", g.hidden); !s.ok()) return s;
  if (Status s = blocks("intermediate", g.intermediate); !s.ok()) return s;
  if (Status s = within("experts", g.experts, 1, contract::kMaxExperts); !s.ok()) return s;
  if (Status s = within("local_experts", g.local_experts, 1, g.experts); !s.ok()) return s;
  if (Status s = within("n_group", g.n_group, 1, g.experts); !s.ok()) return s;
  if (g.experts % g.n_group != 0) {
    return invalid("n_group: is {}, expected a divisor of experts ({})", g.n_group, g.experts);
  }
  if (Status s = within("topk_group", g.topk_group, 1, g.n_group); !s.ok()) return s;
  if (Status s = within("top_k", g.top_k, 1, contract::kMaxTopK); !s.ok()) return s;
  const std::int32_t candidates = g.topk_group * g.experts_per_group();
  if (g.top_k > candidates) {
    return invalid("top_k: is {}, expected at most {} (topk_group groups of {} experts)", g.top_k, candidates,
                   g.experts_per_group());
  }
  return {};
}

}  // namespace blockmoe::workload
