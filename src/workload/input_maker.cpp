// input_maker.cpp: the inputs of a workload, tensor by tensor from a file or from the generator.
#include <algorithm>
#include <array>
#include <filesystem>
#include <map>
#include <optional>
#include <utility>

#include "contract/e4m3.h"
#include "workload/buffer.hpp"
#include "workload/definition.hpp"
#include "workload/error.hpp"
#include "workload/generator.hpp"
#include "workload/inputs.hpp"
#include "workload/placed.hpp"
#include "workload/skew.hpp"

namespace blockmoe::workload {
namespace {

namespace fs = std::filesystem;

constexpr float kBiasDeviation = 0.01F;  // of a bias that is drawn

// "a", "a and b", "a, b and c".
std::string listed(const std::vector<std::string>& words) {
  std::string text;
  for (std::size_t i = 0; i < words.size(); ++i) {
    text += (i == 0 ? "" : i + 1 == words.size() ? " and " : ", ") + words[i];
  }
  return text;
}

// The files of one row, each opened once, and why a tensor was drawn after all.
class RowFiles {
 public:
  RowFiles(const Workload& row, const std::string& root) : row_(row), root_(root) {}

  // Nothing where the tensor is to be drawn.
  Result<std::optional<Placed>> find(const std::string& tensor, Types types, const Shape& shape) {
    const auto reference = row_.files.find(tensor);
    if (reference == row_.files.end()) return std::optional<Placed>();
    if (root_.empty()) return drawn(tensor, "FIB_DATASET_PATH is not set");
    const std::string path = (fs::path(root_) / reference->second.path).lexically_normal().string();
    std::error_code ignored;
    if (!fs::exists(path, ignored)) return drawn(tensor, path + " is not there");
    auto open = open_.find(path);
    if (open == open_.end()) {
      auto file = SafetensorsFile::open(path);
      if (!file.ok()) return file.status();
      open = open_.emplace(path, std::move(file).value()).first;
    }
    auto placed = place(open->second, reference->second.tensor_key, types, shape);
    if (!placed.ok()) return placed.status();
    return std::optional<Placed>(std::move(placed).value());
  }

  std::optional<Placed> drawn(const std::string& tensor, const std::string& why) {
    drawn_[why].push_back(tensor);
    return std::nullopt;
  }

  std::vector<std::string> notes() const {
    std::vector<std::string> notes;
    notes.reserve(drawn_.size());
    for (const auto& [why, tensors] : drawn_) {
      notes.push_back(fmt::format("{} {} drawn: {}", listed(tensors), tensors.size() == 1 ? "is" : "are", why));
    }
    return notes;
  }

 private:
  const Workload& row_;
  const std::string& root_;
  std::map<std::string, SafetensorsFile> open_;
  std::map<std::string, std::vector<std::string>> drawn_;  // tensors by reason
};

}  // namespace

struct InputMaker::State {
  InputOptions options;

  // Memory by what it is for. A buffer that an Inputs still holds is left to it.
  enum Slot : std::size_t { logits, bias, hidden, hidden_scale, w13, w13_scale, w2, w2_scale, slots };
  std::array<std::shared_ptr<Buffer>, slots> buffers;

  // What the four buffers of the weights hold, once they hold something whole.
  struct DrawnWeights {
    contract::Geometry geometry;
    std::uint64_t seed = 0;
  };
  std::optional<DrawnWeights> drawn_weights;

  Result<std::shared_ptr<Buffer>> acquire(Slot slot, std::size_t bytes) {
    std::shared_ptr<Buffer>& buffer = buffers[slot];
    if (buffer && buffer.use_count() == 1 && buffer->bytes() >= bytes) return buffer;
    buffer.reset();
    auto fresh = Buffer::allocate(bytes);
    if (fresh.ok()) buffer = fresh.value();
    return fresh;
  }

  bool holds_weights(const Workload& row) const {
    return drawn_weights && drawn_weights->seed == row.weights_seed &&
           drawn_weights->geometry.hidden == row.geometry.hidden &&
           drawn_weights->geometry.intermediate == row.geometry.intermediate &&
           drawn_weights->geometry.local_experts == row.geometry.local_experts;
  }

  Status place_weights(const Workload& row, RowFiles& files, Inputs& inputs);
  Status draw_weights(const Workload& row);
  Status place_routing(const Workload& row, RowFiles& files, Inputs& inputs);
  Status place_hidden(const Workload& row, RowFiles& files, Inputs& inputs);
};

Status InputMaker::State::draw_weights(const Workload& row) {
  if (holds_weights(row)) return {};
  drawn_weights.reset();
  const Shapes shapes(row.geometry, row.tokens);
  struct Pair {
    Slot codes_slot, scales_slot;
    const Shape &codes, &scales;
    DrawStream codes_stream, scales_stream;
  };
  const Pair pairs[] = {{w13, w13_scale, shapes.gemm1_weights, shapes.gemm1_weights_scale, DrawStream::gemm1_weights,
                         DrawStream::gemm1_weights_scale},
                        {w2, w2_scale, shapes.gemm2_weights, shapes.gemm2_weights_scale, DrawStream::gemm2_weights,
                         DrawStream::gemm2_weights_scale}};
  for (const Pair& pair : pairs) {
    const std::int64_t codes_count = elements_of(pair.codes);
    const std::int64_t scales_count = elements_of(pair.scales);
    const auto codes = acquire(pair.codes_slot, static_cast<std::size_t>(codes_count));
    if (!codes.ok()) return codes.status();
    const auto scales = acquire(pair.scales_slot, static_cast<std::size_t>(scales_count) * sizeof(float));
    if (!scales.ok()) return scales.status();
    auto* code = codes.value()->as<std::uint8_t>();
    auto* scale = scales.value()->as<float>();
    if (options.profile == Profile::model) {
      draw_quantised_weights(code, scale, pair.codes[0], pair.codes[1], pair.codes[2], row.weights_seed,
                             pair.codes_stream, options.threads);
    } else {
      draw_clamped_codes(code, codes_count, row.weights_seed, pair.codes_stream, options.threads);
      draw_normals(scale, scales_count, row.weights_seed, pair.scales_stream, options.threads);
    }
  }
  drawn_weights = DrawnWeights{row.geometry, row.weights_seed};
  return {};
}

Status InputMaker::State::place_weights(const Workload& row, RowFiles& files, Inputs& inputs) {
  const Shapes shapes(row.geometry, row.tokens);
  const auto codes1 = files.find("gemm1_weights", kCodeTypes, shapes.gemm1_weights);
  if (!codes1.ok()) return codes1.status();
  const auto scales1 = files.find("gemm1_weights_scale", kScaleTypes, shapes.gemm1_weights_scale);
  if (!scales1.ok()) return scales1.status();
  const auto codes2 = files.find("gemm2_weights", kCodeTypes, shapes.gemm2_weights);
  if (!codes2.ok()) return codes2.status();
  const auto scales2 = files.find("gemm2_weights_scale", kScaleTypes, shapes.gemm2_weights_scale);
  if (!scales2.ok()) return scales2.status();

  const std::array<const std::optional<Placed>*, 4> placed = {&codes1.value(), &scales1.value(), &codes2.value(),
                                                              &scales2.value()};
  const bool draws = std::any_of(placed.begin(), placed.end(), [](const auto* p) { return !p->has_value(); });
  if (draws) {
    if (Status status = draw_weights(row); !status.ok()) return status;
  }
  const std::array<Slot, 4> slot = {w13, w13_scale, w2, w2_scale};
  std::array<const void*, 4> data{};
  for (std::size_t i = 0; i < placed.size(); ++i) {
    const std::optional<Placed>& from_file = *placed[i];
    data[i] = from_file ? from_file->data : buffers[slot[i]]->as<void>();
    inputs.memory.push_back(from_file ? from_file->owner : buffers[slot[i]]);
  }
  inputs.weights.w13 = static_cast<const std::uint8_t*>(data[0]);
  inputs.weights.w13_scale = static_cast<const float*>(data[1]);
  inputs.weights.w2 = static_cast<const std::uint8_t*>(data[2]);
  inputs.weights.w2_scale = static_cast<const float*>(data[3]);
  return {};
}

Status InputMaker::State::place_routing(const Workload& row, RowFiles& files, Inputs& inputs) {
  const Shapes shapes(row.geometry, row.tokens);
  const bool even = options.skew.kind == Skew::Kind::even;
  const bool refers = row.files.contains("routing_logits");
  auto logits_found = even ? files.find("routing_logits", kFloatTypes, shapes.routing_logits) : std::optional<Placed>();
  if (!logits_found.ok()) return logits_found.status();
  std::optional<Placed> placed = std::move(logits_found).value();
  if (!placed) {
    if (!even && refers) files.drawn("routing_logits", "skew " + to_string(options.skew));
    const std::int64_t count = elements_of(shapes.routing_logits);
    const auto buffer = acquire(logits, static_cast<std::size_t>(count) * sizeof(float));
    if (!buffer.ok()) return buffer.status();
    auto* values = buffer.value()->as<float>();
    draw_normals(values, count, row.seed, DrawStream::routing_logits, options.threads);
    skew_logits(values, row.tokens, row.geometry, row.local_expert_offset, options.skew, row.seed);
    placed = Placed{values, ElementType::f32, buffer.value()};
  }
  inputs.activations.routing_logits = placed->data;
  inputs.activations.routing_logits_type = float_type(placed->type);
  inputs.memory.push_back(placed->owner);

  auto bias_found = files.find("routing_bias", kFloatTypes, shapes.routing_bias);
  if (!bias_found.ok()) return bias_found.status();
  placed = std::move(bias_found).value();
  if (!placed) {
    const auto buffer = acquire(bias, static_cast<std::size_t>(row.geometry.experts) * sizeof(std::uint16_t));
    if (!buffer.ok()) return buffer.status();
    auto* values = buffer.value()->as<std::uint16_t>();
    for (std::int32_t e = 0; e < row.geometry.experts; ++e) {
      const float number = normal_at(normal_table(), row.seed, DrawStream::routing_bias, static_cast<std::uint64_t>(e));
      values[e] = contract::bf16_encode(contract::rn::mul(kBiasDeviation, number));
    }
    placed = Placed{values, ElementType::bf16, buffer.value()};
    // The official ones are a trained model's: a report must not pass drawn ones for them.
    const bool official = options.profile == Profile::official;
    if (official && !row.files.contains("routing_bias")) {
      const std::string why = row.not_in_dataset.empty() ? "the row names no file of the data set" : row.not_in_dataset;
      if (even && !refers) files.drawn("routing_logits", why);
      files.drawn("routing_bias", why);
    }
  }
  inputs.weights.routing_bias = placed->data;
  inputs.weights.routing_bias_type = float_type(placed->type);
  inputs.memory.push_back(placed->owner);
  return {};
}

Status InputMaker::State::place_hidden(const Workload& row, RowFiles& files, Inputs& inputs) {
  const Shapes shapes(row.geometry, row.tokens);
  const auto codes = files.find("hidden_states", kCodeTypes, shapes.hidden_states);
  if (!codes.ok()) return codes.status();
  const auto scales = files.find("hidden_states_scale", kScaleTypes, shapes.hidden_states_scale);
  if (!scales.ok()) return scales.status();
  Placed placed_codes = codes.value().value_or(Placed());
  Placed placed_scales = scales.value().value_or(Placed());
  if (!codes.value() || !scales.value()) {
    const std::int64_t codes_count = elements_of(shapes.hidden_states);
    const std::int64_t scales_count = elements_of(shapes.hidden_states_scale);
    const auto codes_buffer = acquire(hidden, static_cast<std::size_t>(codes_count));
    if (!codes_buffer.ok()) return codes_buffer.status();
    const auto scales_buffer = acquire(hidden_scale, static_cast<std::size_t>(scales_count) * sizeof(float));
    if (!scales_buffer.ok()) return scales_buffer.status();
    auto* code = codes_buffer.value()->as<std::uint8_t>();
    auto* scale = scales_buffer.value()->as<float>();
    if (options.profile == Profile::model) {
      draw_quantised_activations(code, scale, row.tokens, row.geometry.hidden, row.seed, options.threads);
    } else {
      draw_clamped_codes(code, codes_count, row.seed, DrawStream::hidden_states, options.threads);
      draw_normals(scale, scales_count, row.seed, DrawStream::hidden_states_scale, options.threads);
    }
    if (!codes.value()) placed_codes = {code, ElementType::f8_e4m3, codes_buffer.value()};
    if (!scales.value()) placed_scales = {scale, ElementType::f32, scales_buffer.value()};
  }
  inputs.activations.hidden = static_cast<const std::uint8_t*>(placed_codes.data);
  inputs.activations.hidden_scale = static_cast<const float*>(placed_scales.data);
  inputs.memory.push_back(placed_codes.owner);
  inputs.memory.push_back(placed_scales.owner);
  return {};
}

InputMaker::InputMaker(InputOptions options) : state_(std::make_unique<State>()) {
  state_->options = std::move(options);
}
InputMaker::~InputMaker() = default;
InputMaker::InputMaker(InputMaker&&) noexcept = default;
InputMaker& InputMaker::operator=(InputMaker&&) noexcept = default;

Result<Inputs> InputMaker::make(const Workload& row) {
  if (Status status = check_geometry(row.geometry); !status.ok()) return status;
  Inputs inputs = frame_of(row.geometry, row.tokens, row.local_expert_offset, row.routed_scaling_factor);
  RowFiles files(row, state_->options.dataset_root);
  if (Status status = state_->place_weights(row, files, inputs); !status.ok()) return status;
  if (Status status = state_->place_routing(row, files, inputs); !status.ok()) return status;
  if (Status status = state_->place_hidden(row, files, inputs); !status.ok()) return status;
  inputs.notes = files.notes();
  return inputs;
}

}  // namespace blockmoe::workload
