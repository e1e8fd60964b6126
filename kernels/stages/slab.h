// slab.h: one slab of a call, as every stage's launch function receives it.
#pragma once

#include <cstdint>
#include <optional>

#include "contract/call.h"
#include "contract/geometry.h"
#include "contract/pruning.h"
#include "operator.h"
#include "plan/sizes.h"
#include "stages/layout.h"

namespace blockmoe::kernels::stages {

struct Slab {
  std::uint32_t wanted = kAllStages;  // the stages to launch
  contract::Geometry geometry;
  contract::Weights weights;
  contract::Activations activations;  // of the slab: pointers moved to its first token, `tokens` its own number
  std::optional<contract::Picks> given_picks;  // likewise; without them there are logits to route
  contract::Pruning pruning;
  std::int64_t call_tokens = 0;  // T of the whole call
  plan::Sizes sizes;
  Workspace workspace;
  void* path_workspace = nullptr;     // the path's own bytes
  std::uint32_t* counters = nullptr;  // some of them, which pack leaves zero
  std::int32_t counter_words = 0;
  bool dependent_launches = false;  // pack and combine may start before the kernel ahead has ended (sm_90)
  bool zeros_written = false;       // the path's products write the rows of tokens without a local pick, not combine
  std::int32_t sms = 0;             // multiprocessors that the call may use
  std::int32_t shared_memory = 0;   // bytes that a block may opt in to
};

// The slab of `call` that begins at `token`.
inline Slab slab_at(const Slab& call, std::int64_t token) {
  Slab slab = call;
  contract::Activations& a = slab.activations;
  const std::int64_t left = call.activations.tokens - token;
  a.tokens = left < call.sizes.slab_tokens ? left : call.sizes.slab_tokens;
  const std::int64_t logit_bytes = a.routing_logits_type == contract::FloatType::f32 ? 4 : 2;
  a.routing_logits = static_cast<const char*>(a.routing_logits) + token * a.routing_logits_pitch * logit_bytes;
  a.hidden += token * a.hidden_pitch;
  a.hidden_scale += token;
  a.output = static_cast<char*>(a.output) + token * a.output_pitch * a.output_bytes();
  if (slab.given_picks) {
    slab.given_picks->experts += token * slab.given_picks->experts_pitch;
    slab.given_picks->weights += token * slab.given_picks->weights_pitch;
  }
  return slab;
}

}  // namespace blockmoe::kernels::stages
