// input_file.cpp: all tensors of a call in one safetensors file.
#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <limits>
#include <map>
#include <system_error>
#include <type_traits>
#include <utility>

#include "workload/definition.hpp"
#include "workload/error.hpp"
#include "workload/inputs.hpp"
#include "workload/placed.hpp"

namespace blockmoe::workload {
namespace {

// The geometry's numbers that no shape says, by their names in the metadata.
constexpr std::array kRoutingKeys = {std::pair("top_k", &contract::Geometry::top_k),
                                     std::pair("n_group", &contract::Geometry::n_group),
                                     std::pair("topk_group", &contract::Geometry::topk_group)};

Status read_routing(const SafetensorsFile& file, contract::Geometry& g) {
  for (const auto& [key, field] : kRoutingKeys) {
    const auto entry = file.metadata().find(key);
    if (entry == file.metadata().end()) continue;
    const std::string& text = entry->second;
    const char* const end = text.data() + text.size();
    const auto [parsed_to, error] = std::from_chars(text.data(), end, g.*field);
    if (error != std::errc() || parsed_to != end) {
      return invalid("{}: metadata \"{}\": {}, expected a number in decimal", file.name(), key, in_quotes(text));
    }
  }
  return {};
}

// The first dimensions of tensors that name sizes of the geometry; place() compares all shapes with it afterwards.
Result<std::pair<contract::Geometry, std::int64_t>> sizes_in(const SafetensorsFile& file, const LoadOptions& options) {
  const auto shape_of = [&](const std::string& name, std::size_t rank) -> Result<Shape> {
    const auto found = file.find(name);
    if (!found.ok()) return found.status();
    if (found.value().shape.size() != rank) {
      return invalid("{}: tensor \"{}\": shape {}, expected {} dimensions", file.name(), name,
                     text_of(found.value().shape), rank);
    }
    return found.value().shape;
  };
  const auto routing = shape_of("routing_logits", 2);
  if (!routing.ok()) return routing.status();
  const auto down = shape_of("gemm2_weights", 3);
  if (!down.ok()) return down.status();

  const std::int64_t tokens = routing.value()[0];
  if (tokens > contract::kMaxTokens) {
    return invalid("{}: tensor \"routing_logits\": {} tokens, expected at most {}", file.name(), tokens,
                   contract::kMaxTokens);
  }
  // Sizes beyond int32 are beyond every limit, too: kept large, check_geometry() names them.
  const auto narrow = [](std::int64_t size) {
    return static_cast<std::int32_t>(std::min<std::int64_t>(size, std::numeric_limits<std::int32_t>::max()));
  };
  contract::Geometry g;
  g.experts = narrow(routing.value()[1]);
  g.local_experts = narrow(down.value()[0]);
  g.hidden = down.value()[1];
  g.intermediate = down.value()[2];
  g.top_k = options.top_k;
  g.n_group = options.n_group;
  g.topk_group = options.topk_group;
  if (Status status = read_routing(file, g); !status.ok()) return status;
  if (Status status = check_geometry(g); !status.ok()) return at(file.name(), status);
  return std::pair(g, tokens);
}

// Reads one number of a one-element tensor of either of two types into `field`, where the file has it.
template <typename Narrow, typename Wide, typename Field>
Status read_scalar(const SafetensorsFile& file, const std::string& name, ElementType narrow, ElementType wide,
                   Field& field) {
  const auto entry = file.tensors().find(name);
  if (entry == file.tensors().end()) return {};
  const TensorView& view = entry->second;
  if ((view.type != narrow && view.type != wide) || view.bytes != type_bytes(view.type)) {
    return invalid("{}: tensor \"{}\": {} of shape {}, expected one {} or {}", file.name(), name, type_name(view.type),
                   text_of(view.shape), type_name(narrow), type_name(wide));
  }
  Wide value{};
  if (view.type == wide) {
    std::memcpy(&value, view.data, sizeof value);
  } else {
    Narrow small{};
    std::memcpy(&small, view.data, sizeof small);
    value = small;
  }
  if (!(value >= static_cast<Wide>(std::numeric_limits<Field>::lowest()) &&
        value <= static_cast<Wide>(std::numeric_limits<Field>::max()))) {
    return invalid("{}: tensor \"{}\": is {}, which is no {}", file.name(), name, value, type_name(narrow));
  }
  field = static_cast<Field>(value);
  return {};
}

}  // namespace

Result<Inputs> load_inputs(const std::string& path, const LoadOptions& options) {
  const auto opened = SafetensorsFile::open(path);
  if (!opened.ok()) return opened.status();
  const SafetensorsFile& file = opened.value();
  const auto sizes = sizes_in(file, options);
  if (!sizes.ok()) return sizes.status();
  const auto& [geometry, tokens] = sizes.value();

  std::int32_t offset = options.local_expert_offset;
  float factor = options.routed_scaling_factor;
  if (Status status = read_scalar<std::int32_t, std::int64_t>(file, "local_expert_offset", ElementType::i32,
                                                              ElementType::i64, offset);
      !status.ok()) {
    return status;
  }
  if (Status status =
          read_scalar<float, double>(file, "routed_scaling_factor", ElementType::f32, ElementType::f64, factor);
      !status.ok()) {
    return status;
  }

  Inputs inputs = frame_of(geometry, tokens, offset, factor);
  const Shapes shapes(geometry, tokens);
  const auto put = [&](const std::string& name, Types types, const Shape& shape, auto& pointer,
                       contract::FloatType* type = nullptr) -> Status {
    auto placed = place(file, name, types, shape);
    if (!placed.ok()) return placed.status();
    pointer = static_cast<std::decay_t<decltype(pointer)>>(placed.value().data);
    if (type != nullptr) *type = float_type(placed.value().type);
    inputs.memory.push_back(placed.value().owner);
    return {};
  };
  contract::Weights& w = inputs.weights;
  contract::Activations& a = inputs.activations;
  const bool has_bias = file.tensors().contains("routing_bias");
  const Status placed[] = {
      put("routing_logits", kFloatTypes, shapes.routing_logits, a.routing_logits, &a.routing_logits_type),
      has_bias ? put("routing_bias", kFloatTypes, shapes.routing_bias, w.routing_bias, &w.routing_bias_type) : Status(),
      put("hidden_states", kCodeTypes, shapes.hidden_states, a.hidden),
      put("hidden_states_scale", kScaleTypes, shapes.hidden_states_scale, a.hidden_scale),
      put("gemm1_weights", kCodeTypes, shapes.gemm1_weights, w.w13),
      put("gemm1_weights_scale", kScaleTypes, shapes.gemm1_weights_scale, w.w13_scale),
      put("gemm2_weights", kCodeTypes, shapes.gemm2_weights, w.w2),
      put("gemm2_weights_scale", kScaleTypes, shapes.gemm2_weights_scale, w.w2_scale)};
  for (const Status& status : placed) {
    if (!status.ok()) return status;
  }
  return inputs;
}

Status save_inputs(const std::string& path, const Inputs& inputs) {
  const Shapes shapes(inputs.geometry, inputs.tokens());
  const contract::Weights& w = inputs.weights;
  const contract::Activations& a = inputs.activations;
  std::map<std::string, TensorView> tensors;
  const auto add = [&](const char* name, ElementType type, const Shape& shape, const void* data) {
    const std::size_t bytes = static_cast<std::size_t>(elements_of(shape)) * type_bytes(type);
    tensors[name] = {type, shape, static_cast<const std::byte*>(data), bytes};
  };
  const auto element_type = [](contract::FloatType type) {
    return type == contract::FloatType::bf16 ? ElementType::bf16 : ElementType::f32;
  };
  add("routing_logits", element_type(a.routing_logits_type), shapes.routing_logits, a.routing_logits);
  if (w.routing_bias != nullptr)
    add("routing_bias", element_type(w.routing_bias_type), shapes.routing_bias, w.routing_bias);
  add("hidden_states", ElementType::f8_e4m3, shapes.hidden_states, a.hidden);
  add("hidden_states_scale", ElementType::f32, shapes.hidden_states_scale, a.hidden_scale);
  add("gemm1_weights", ElementType::f8_e4m3, shapes.gemm1_weights, w.w13);
  add("gemm1_weights_scale", ElementType::f32, shapes.gemm1_weights_scale, w.w13_scale);
  add("gemm2_weights", ElementType::f8_e4m3, shapes.gemm2_weights, w.w2);
  add("gemm2_weights_scale", ElementType::f32, shapes.gemm2_weights_scale, w.w2_scale);
  add("local_expert_offset", ElementType::i32, {}, &w.local_expert_offset);
  add("routed_scaling_factor", ElementType::f32, {}, &w.routed_scaling_factor);
  std::map<std::string, std::string> metadata;
  for (const auto& [key, field] : kRoutingKeys) metadata[key] = std::to_string(inputs.geometry.*field);
  return write_safetensors(path, tensors, metadata);
}

}  // namespace blockmoe::workload
