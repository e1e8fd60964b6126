// layer.hpp: random calls of the operator on the host, and the same on the device, for tests of whole calls and of stages.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "contract/call.h"
#include "contract/geometry.h"
#include "contract/intermediate.h"
#include "contract/pruning.h"
#include "device_array.h"
#include "given_picks.hpp"
#include "operator.h"
#include "plan/sizes.h"
#include "stages/slab.h"

namespace blockmoe::test {

/// What a call looks like; the values are drawn from `seed`.
struct LayerOptions {
  contract::Geometry geometry;
  std::int64_t tokens = 1;
  contract::FloatType logits_type = contract::FloatType::f32;
  contract::FloatType bias_type = contract::FloatType::bf16;
  bool has_bias = true;
  bool gate_first = false;
  std::int32_t local_expert_offset = 0;
  std::int64_t extra_pitch = 0;  // times 16: elements beyond a row, in every pitched tensor
  std::uint32_t seed = 1;
  contract::Pruning pruning = {};
  contract::IntermediateType intermediate_type = contract::IntermediateType::e4m3;
};

/// The tensors of a call in host memory. Change the values freely before uploading.
struct Layer {
  LayerOptions options;
  std::vector<float> logits;         // [T, E]; written to memory as logits_type
  std::vector<float> bias;           // [E]; likewise
  std::vector<std::uint8_t> hidden;  // [T, hidden_pitch]
  std::vector<float> hidden_scale;   // [H/128, hidden_scale_pitch]
  std::vector<std::uint8_t> w13;     // [L, 2I, H]
  std::vector<float> w13_scale;      // [L, 2I/128, H/128]
  std::vector<std::uint8_t> w2;      // [L, H, I]
  std::vector<float> w2_scale;       // [L, H/128, I/128]

  std::int64_t tokens() const { return options.tokens; }
  const contract::Geometry& geometry() const { return options.geometry; }
  std::int64_t logits_pitch() const {
    return geometry().experts + 16 * options.extra_pitch + (options.extra_pitch > 0);
  }
  std::int64_t hidden_pitch() const { return geometry().hidden + 16 * options.extra_pitch; }
  std::int64_t hidden_scale_pitch() const { return tokens() + 16 * options.extra_pitch + (options.extra_pitch > 0); }
  std::int64_t output_pitch() const { return geometry().hidden + 16 * options.extra_pitch; }
};

/// Values as a model has them: codes of normal numbers, scales of either sign around 1/16, normal logits.
Layer draw_layer(const LayerOptions& options);

/// The call's tensors where the host can read them: what the oracle takes.
class HostCall {
 public:
  explicit HostCall(const Layer& layer);
  contract::Weights weights;
  contract::Activations activations;

 private:
  std::vector<std::uint8_t> logits_;
  std::vector<std::uint8_t> bias_;
};

/// The same on the device. The output is poisoned with NaN, the gaps between rows included.
class DeviceCall {
 public:
  explicit DeviceCall(const Layer& layer);
  contract::Weights weights;
  contract::Activations activations;
  std::optional<contract::Picks> given_picks;  // without them the call is routed
  contract::Pruning pruning;
  contract::IntermediateType intermediate_type = contract::IntermediateType::e4m3;

  /// From here on the call's routing is the caller's, and it has no logits.
  void take(const GivenPicks& picks);

  /// [T, output_pitch] bf16, after waiting for the device.
  std::vector<std::uint16_t> output() const { return output_.host(); }
  void poison_output() { output_.fill(0xff); }

  /// From here on the output is f32, poisoned likewise; f32_output() is then what output() was.
  void want_f32();
  std::vector<float> f32_output() const { return f32_output_.host(); }

 private:
  DeviceArray<std::uint8_t> logits_, bias_, hidden_, w13_, w2_;
  DeviceArray<float> hidden_scale_, w13_scale_, w2_scale_;
  DeviceArray<std::uint16_t> output_;
  DeviceArray<float> f32_output_;
  DeviceArray<std::int32_t> given_experts_;
  DeviceArray<float> given_weights_;
};

/// What make_plan() is told of the GPU here.
kernels::Device device_here();

/// The paths that run on the GPU here.
std::vector<kernels::Path> paths_here(const contract::Geometry& geometry);
std::string_view name_of(kernels::Path path);

/// A plan for calls of up to `tokens` on this device.
kernels::Request request_of(const contract::Geometry& geometry, std::int64_t tokens, kernels::Path path);

/// One whole call on a poisoned workspace; fails the test on an error.
void run_call(const DeviceCall& call, const kernels::Request& request);

/// The same by a path, planned for the call's tokens. max_sms as in kernels::Request.
void run_call(const DeviceCall& call, const contract::Geometry& geometry, kernels::Path path, std::int32_t max_sms = 0);
std::vector<std::uint16_t> output_of(const Layer& layer, kernels::Path path, std::int32_t max_sms = 0);

/// The same with sizes given, where a row type of 16 bits stands for the path's own, in a workspace as it was allocated: a checker of
/// memory sees who reads what nobody wrote.
void run_call_in_fresh_memory(const DeviceCall& call, const contract::Geometry& geometry, kernels::Path path,
                              const kernels::plan::Sizes& given);

/// A slab over all of a call's tokens with sizes of the test's choice, in a poisoned workspace: for stages alone.
class StageCall {
 public:
  StageCall(const DeviceCall& call, const contract::Geometry& geometry, const kernels::plan::Sizes& sizes);
  StageCall(const DeviceCall& call, const contract::Geometry& geometry);

  const kernels::stages::Slab& slab() const { return slab_; }
  /// `count` values of the workspace at `from`, after waiting for the device.
  template <typename T>
  std::vector<T> fetch(const T* from, std::int64_t count) const {
    std::vector<T> values(static_cast<std::size_t>(count));
    EXPECT_EQ(cudaSuccess, cudaMemcpy(values.data(), from, values.size() * sizeof(T), cudaMemcpyDeviceToHost));
    return values;
  }

 private:
  kernels::stages::Slab slab_;
  DeviceArray<std::uint8_t> workspace_;
};

/// `sizes_of` with chunks of `row_capacity` rows, as a larger call would be cut.
kernels::plan::Sizes sizes_with_capacity(const contract::Geometry& geometry, std::int64_t tokens,
                                         std::int64_t row_capacity);

/// The same in slabs of `slab_tokens`, a multiple of a token block.
kernels::plan::Sizes sizes_with_slabs(const contract::Geometry& geometry, std::int64_t tokens, std::int64_t slab_tokens,
                                      std::int64_t row_capacity);

}  // namespace blockmoe::test
