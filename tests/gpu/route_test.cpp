// Route alone: bit-equal to brute force with the contract's functions on the host, whatever the logits hold.
#include <algorithm>
#include <cfloat>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <thread>

#include "contract/e4m3.h"
#include "given_picks.hpp"
#include "gpu_test.hpp"
#include "layer.hpp"
#include "routing_reference.hpp"
#include "routing_rows.hpp"
#include "stages/stages.h"

namespace blockmoe::test {
namespace {

using contract::FloatType;
using contract::Geometry;
namespace stages = kernels::stages;

using RouteTest = GpuTest;

enum class Kind { normal, levels, close, equal, special, any_bits, saturated };
constexpr Kind kKinds[] = {Kind::normal,  Kind::levels,   Kind::close,    Kind::equal,
                           Kind::special, Kind::any_bits, Kind::saturated};

// Small and fast; the tests draw billions of numbers.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint32_t next() {
    state_ += 0x9e3779b97f4a7c15ULL;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return static_cast<std::uint32_t>((z ^ (z >> 31)) >> 16);
  }
  float normal() {
    double sum = 0;
    for (int i = 0; i < 6; ++i) sum += next();
    return static_cast<float>((sum / 4294967296.0 - 3.0) * 1.4142);
  }

 private:
  std::uint64_t state_;
};

float draw(Kind kind, Random& random) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  constexpr float kSpecial[] = {0.0F,     -0.0F,   NAN,    kInf,    -kInf, FLT_MAX,
                                -FLT_MAX, FLT_MIN, 1e-40F, -1e-45F, 88.0F, -104.0F};
  switch (kind) {
    case Kind::normal:
      return random.normal();
    case Kind::levels:
      return static_cast<float>(static_cast<int>(random.next() % 5)) * 0.5F - 1.0F;
    case Kind::close:  // levels, a few units of the last place apart
      return contract::float_of(contract::bits_of(static_cast<float>(random.next() % 5 + 1) * 0.25F) +
                                random.next() % 4);
    case Kind::equal:
      return 0.25F;
    case Kind::special:
      return random.next() % 3 == 0 ? kSpecial[random.next() % std::size(kSpecial)] : random.normal();
    case Kind::any_bits:
      return contract::float_of(random.next());
    case Kind::saturated:
      return 30.0F * random.normal();
  }
  return 0.0F;
}

void fill(Kind kind, std::uint64_t seed, std::vector<float>* values) {
  const std::size_t workers = std::max(1U, std::thread::hardware_concurrency());
  const std::size_t share = values->size() / workers + 1;
  std::vector<std::thread> threads;
  threads.reserve(workers);
  for (std::size_t w = 0; w < workers; ++w) {
    threads.emplace_back([=] {
      Random random(seed * 1000 + w);
      for (std::size_t i = w * share; i < std::min(values->size(), (w + 1) * share); ++i)
        (*values)[i] = draw(kind, random);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// A layer whose products are as small as can be: only its routing counts.
Layer routing_layer(LayerOptions options, Kind logits, Kind bias) {
  options.geometry.hidden = 128;
  options.geometry.intermediate = 128;
  LayerOptions one = options;
  one.tokens = 1;
  Layer layer = draw_layer(one);
  layer.options = options;
  layer.logits.resize(static_cast<std::size_t>(options.tokens * options.geometry.experts));
  fill(logits, options.seed, &layer.logits);
  fill(bias, options.seed + 77, &layer.bias);
  return layer;
}

// Route by a launch of its own, or by the launch that a path makes for route and pack: for few tokens of some layers
// that is one kernel, which leaves no counts.
enum class Launch { route, routing };

// How many tokens' picks, weights and counts differ from the reference.
std::int64_t wrong_tokens(const Layer& layer, Launch launch = Launch::route) {
  const HostCall host(layer);
  const DeviceCall device(layer);
  const StageCall call(device, layer.geometry());
  const stages::Slab& slab = call.slab();
  EXPECT_LE(layer.tokens(), slab.sizes.slab_tokens);
  const kernels::Error error =
      launch == Launch::route ? stages::launch_route(slab, nullptr) : stages::launch_routing(slab, nullptr);
  EXPECT_TRUE(error.ok()) << error.kernel << ": " << kernels::error_text(error);
  EXPECT_EQ(cudaSuccess, cudaDeviceSynchronize());

  const Geometry& g = layer.geometry();
  const std::int64_t picks = slab.sizes.picks;
  const std::int64_t pitch = stages::counts_pitch(g.local_experts);
  const std::int64_t blocks = (layer.tokens() + kernels::plan::kTokenBlock - 1) / kernels::plan::kTokenBlock;
  const auto experts = call.fetch(slab.workspace.pick_expert, layer.tokens() * picks);
  const auto weights = call.fetch(slab.workspace.pick_weight, layer.tokens() * picks);
  const auto counts = call.fetch(slab.workspace.block_counts, blocks * pitch);
  const auto rows = call.fetch(slab.workspace.block_rows, blocks);

  const auto expected = reference_routing(g, host.weights, host.activations, layer.options.pruning);
  std::vector<std::uint8_t> expected_counts(counts.size(), 0);
  std::vector<std::int32_t> expected_rows(rows.size(), 0);
  std::int64_t wrong = 0;
  for (std::int64_t t = 0; t < layer.tokens(); ++t) {
    std::vector<LocalPick> found;
    bool ended = false;
    bool gap = false;
    for (std::int64_t j = 0; j < picks; ++j) {
      const auto at = static_cast<std::size_t>(t * picks + j);
      gap = gap || (ended && experts[at] >= 0);
      ended = ended || experts[at] < 0;
      if (!ended) found.push_back({experts[at], contract::bits_of(weights[at])});
    }
    const auto& right = expected[static_cast<std::size_t>(t)];
    wrong += gap || found != right ? 1 : 0;
    for (const LocalPick& pick : right) {
      const std::int64_t block = t / kernels::plan::kTokenBlock;
      ++expected_counts[static_cast<std::size_t>(block * pitch + pick.expert)];
      ++expected_rows[static_cast<std::size_t>(block)];
    }
  }
  if (launch == Launch::route) {
    EXPECT_EQ(expected_counts, counts);
    EXPECT_EQ(expected_rows, rows);
  }
  return wrong;
}

// Tokens whose picks by a call that only routes differ from the reference's over all ranks, or of which a pick is missing.
std::int64_t wrong_tokens_alone(const Layer& layer) {
  const HostCall host(layer);
  const DeviceCall device(layer);
  const Geometry& g = layer.geometry();
  kernels::Bound bound;
  bound.plan.request.geometry = g;
  bound.weights = device.weights;
  EXPECT_TRUE(stages::prepare_routing().ok());
  const auto slots = static_cast<std::size_t>(layer.tokens() * g.top_k);
  const DeviceArray<std::int32_t> experts(slots);
  const DeviceArray<float> weights(slots);
  const kernels::Error error =
      kernels::launch_route(bound, device.activations, {experts.get(), weights.get()}, nullptr);
  EXPECT_TRUE(error.ok()) << error.kernel << ": " << kernels::error_text(error);

  const GivenPicks expected = picks_of_routing(g, host.weights, host.activations);
  const std::vector<std::int32_t> found = experts.host();
  const std::vector<float> found_weights = weights.host();
  std::int64_t wrong = 0;
  for (std::int64_t t = 0; t < layer.tokens(); ++t) {
    bool right = true;
    for (std::int32_t j = 0; j < g.top_k; ++j) {
      const auto at = static_cast<std::size_t>(t * g.top_k + j);
      right = right && found[at] == expected.expert(t, j) &&
              contract::bits_of(found_weights[at]) == contract::bits_of(expected.weight(t, j));
    }
    wrong += right ? 0 : 1;
  }
  return wrong;
}

struct GroupingCase {
  int experts, local_experts, top_k, n_group, topk_group;
};

constexpr GroupingCase kGroupings[] = {
    {256, 32, 8, 8, 4},   {256, 256, 8, 8, 4}, {256, 32, 8, 1, 1},    {256, 16, 32, 8, 8},  {256, 7, 1, 4, 2},
    {256, 32, 6, 2, 1},   {160, 20, 6, 8, 3},  {384, 48, 8, 1, 1},    {512, 64, 8, 16, 4},  {1024, 1024, 32, 8, 4},
    {1024, 3, 32, 32, 5}, {128, 16, 4, 4, 2},  {64, 8, 6, 8, 3},      {8, 8, 2, 1, 1},      {16, 2, 4, 4, 1},
    {1, 1, 1, 1, 1},      {3, 2, 3, 3, 3},     {200, 50, 10, 100, 9}, {96, 12, 8, 3, 2},    {32, 32, 32, 1, 1},
    {1000, 10, 9, 8, 2},  {33, 5, 3, 11, 2},   {256, 32, 8, 256, 9},  {768, 96, 12, 12, 3},
};

Geometry geometry_of(const GroupingCase& c) {
  Geometry g;
  g.experts = c.experts;
  g.local_experts = c.local_experts;
  g.top_k = c.top_k;
  g.n_group = c.n_group;
  g.topk_group = c.topk_group;
  return g;
}

std::string text(const GroupingCase& c) {
  return "E " + std::to_string(c.experts) + " L " + std::to_string(c.local_experts) + " k " + std::to_string(c.top_k) +
         " groups " + std::to_string(c.topk_group) + "/" + std::to_string(c.n_group);
}

LayerOptions options_of(const GroupingCase& c, std::uint32_t seed) {
  LayerOptions options;
  options.geometry = geometry_of(c);
  options.tokens = 77;
  options.seed = seed;
  options.logits_type = seed % 2 == 0 ? FloatType::bf16 : FloatType::f32;
  options.local_expert_offset = (c.experts - c.local_experts) / 2;
  return options;
}

TEST_F(RouteTest, every_grouping_and_every_kind_of_logits_give_the_references_bits) {
  std::uint32_t seed = 1;
  for (const GroupingCase& c : kGroupings) {
    for (const Kind kind : kKinds) {
      LayerOptions options = options_of(c, seed++);
      options.bias_type = seed % 3 == 0 ? FloatType::f32 : FloatType::bf16;
      options.has_bias = seed % 5 != 0;
      options.extra_pitch = seed % 4 == 0 ? 1 : 0;
      const Kind bias = seed % 7 == 0 ? Kind::special : seed % 2 == 0 ? Kind::normal : kind;
      EXPECT_EQ(0, wrong_tokens(routing_layer(options, kind, bias)))
          << text(c) << " logits of kind " << static_cast<int>(kind) << " seed " << options.seed;
      EXPECT_EQ(0, wrong_tokens_alone(routing_layer(options, kind, bias)))
          << text(c) << " alone, logits of kind " << static_cast<int>(kind) << " seed " << options.seed;
    }
  }
}

constexpr contract::Pruning kPrunings[] = {{1, 0}, {3, 0}, {0, 0.05F}, {0, 0.125F}, {0, 0.4F}, {2, 0.13F}};

contract::Pruning pruning_for(const Geometry& g, std::uint32_t seed) {
  contract::Pruning pruning = kPrunings[seed % std::size(kPrunings)];
  pruning.max_local_picks = std::min(pruning.max_local_picks, g.top_k);
  return pruning;
}

TEST_F(RouteTest, pruning_leaves_the_references_picks_of_every_grouping) {
  std::uint32_t seed = 1;
  for (const GroupingCase& c : kGroupings) {
    for (const Kind kind : kKinds) {
      LayerOptions options = options_of(c, seed++);
      options.pruning = pruning_for(options.geometry, seed);
      EXPECT_EQ(0, wrong_tokens(routing_layer(options, kind, Kind::normal)))
          << text(c) << " logits of kind " << static_cast<int>(kind) << " seed " << options.seed;
    }
  }
}

TEST_F(RouteTest, pruning_leaves_the_references_picks_where_few_tokens_are_packed_at_once) {
  std::uint32_t seed = 1;
  for (const std::int64_t tokens : {1, 7, 16, 17, 80, 128, 129}) {
    for (const Kind kind : kKinds) {
      LayerOptions options;
      options.tokens = tokens;
      options.seed = seed++;
      options.geometry.local_experts = seed % 3 == 0 ? 32 : 256;
      options.logits_type = seed % 2 == 0 ? FloatType::f32 : FloatType::bf16;
      options.pruning = pruning_for(options.geometry, seed);
      EXPECT_EQ(0, wrong_tokens(routing_layer(options, kind, Kind::normal), Launch::routing))
          << "T = " << tokens << " logits of kind " << static_cast<int>(kind) << " seed " << options.seed;
    }
  }
}

TEST_F(RouteTest, any_number_of_tokens_ends_where_it_should) {
  for (const std::int64_t tokens : {1, 2, 3, 4, 5, 7, 8, 31, 32, 33, 63, 64, 65, 127, 300}) {
    LayerOptions options;
    options.tokens = tokens;
    options.local_expert_offset = 64;
    EXPECT_EQ(0, wrong_tokens(routing_layer(options, Kind::normal, Kind::normal))) << "T = " << tokens;
  }
}

// Around every number of tokens at which the launch takes another kernel or another share of a token for a lane.
TEST_F(RouteTest, few_tokens_routed_and_packed_at_once_give_the_references_bits) {
  std::uint32_t seed = 1;
  for (const std::int64_t tokens : {1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 80, 127, 128, 129}) {
    for (const Kind kind : kKinds) {
      LayerOptions options;
      options.tokens = tokens;
      options.seed = seed++;
      options.geometry.local_experts = seed % 3 == 0 ? 256 : 32;
      options.logits_type = seed % 2 == 0 ? FloatType::f32 : FloatType::bf16;
      options.bias_type = seed % 5 == 0 ? FloatType::f32 : FloatType::bf16;
      options.has_bias = seed % 4 != 0;
      options.local_expert_offset = seed % 3 == 0 ? 0 : static_cast<std::int32_t>(seed % 8 * 32);
      EXPECT_EQ(0, wrong_tokens(routing_layer(options, kind, seed % 7 == 0 ? kind : Kind::normal), Launch::routing))
          << "T = " << tokens << " logits of kind " << static_cast<int>(kind) << " seed " << options.seed;
    }
  }
}

TEST_F(RouteTest, local_experts_outside_the_model_get_no_rows) {
  for (const std::int32_t offset : {-16, 240, 256, 100000, -100000, std::numeric_limits<std::int32_t>::max(),
                                    std::numeric_limits<std::int32_t>::min()}) {
    LayerOptions options;
    options.tokens = 50;
    options.local_expert_offset = offset;
    EXPECT_EQ(0, wrong_tokens(routing_layer(options, Kind::normal, Kind::normal))) << "offset " << offset;
  }
}

// Groups whose approximate scores settle nothing: in every token of a warp, in some, with NaN and infinities among them.
TEST_F(RouteTest, near_ties_of_groups_and_experts_give_the_references_bits) {
  int seed = 1;
  for (const NearTies& ties : kNearTies) {
    for (const NearTieBias kind : kNearTieBiases) {
      for (const std::int64_t tokens : {5, 100, 901}) {
        LayerOptions options;
        options.tokens = tokens;
        options.geometry.local_experts = 256;
        options.logits_type = ++seed % 5 == 0 ? FloatType::bf16 : FloatType::f32;
        options.bias_type = FloatType::f32;
        options.has_bias = kind != NearTieBias::none;
        Layer layer = routing_layer(options, Kind::equal, Kind::equal);
        const std::vector<float> bias = near_tie_bias(kind, seed);
        if (options.has_bias) layer.bias = bias;
        layer.logits = near_tie_logits(ties, bias, tokens, seed);
        for (const Launch launch : {Launch::route, Launch::routing}) {
          EXPECT_EQ(0, wrong_tokens(layer, launch))
              << "T = " << tokens << ", bias " << static_cast<int>(kind) << ", seed " << seed;
        }
      }
    }
  }
}

TEST_F(RouteTest, ten_million_rows_give_the_references_bits) {
  constexpr std::int64_t kTokens = 16384;
  std::int64_t rows = 0;
  for (std::uint32_t seed = 1; rows < 10'000'000; ++seed, rows += kTokens) {
    LayerOptions options;
    options.tokens = kTokens;
    options.seed = seed;
    options.logits_type = seed % 4 == 0 ? FloatType::bf16 : FloatType::f32;
    options.bias_type = seed % 3 == 0 ? FloatType::f32 : FloatType::bf16;
    options.local_expert_offset = static_cast<std::int32_t>(seed % 8 * 32);
    const Kind kind = seed % 2 == 0 ? Kind::normal : kKinds[seed / 2 % std::size(kKinds)];
    const Kind bias = seed % 5 == 0 ? kKinds[seed / 5 % std::size(kKinds)] : Kind::normal;
    ASSERT_EQ(0, wrong_tokens(routing_layer(options, kind, bias))) << "seed " << seed;
  }
}

}  // namespace
}  // namespace blockmoe::test
