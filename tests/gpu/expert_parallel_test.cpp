// The layer over several ranks: their shares in turn on one GPU, the messages between them copied by hand; and, where there are two
// GPUs and NCCL, whole groups through the public API. Both against one rank that has every expert.
#include <cuda_runtime.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "blockmoe/blockmoe.hpp"
#include "contract/e4m3.h"
#include "ep/buffers.hpp"
#include "ep/expert_map.hpp"
#include "ep/nccl.hpp"
#include "ep/thread_board.hpp"
#include "expert_parallel/records.h"
#include "gates.hpp"
#include "gpu_test.hpp"
#include "layer.hpp"

namespace blockmoe::test {
namespace {

namespace records = kernels::expert_parallel;
using ep::OperatorCall;
using kernels::Path;

using ExpertParallelTest = GpuTest;

contract::Geometry geometry_of_all() {
  return {512, 256, 32, 32, 4, 4, 2};
}

// A layer of every expert, and tokens of all ranks one after the other.
Layer layer_of(std::int64_t tokens, std::uint32_t seed) {
  LayerOptions options;
  options.geometry = geometry_of_all();
  options.tokens = tokens;
  options.seed = seed;
  return draw_layer(options);
}

// Its tokens [first, first + count).
Layer tokens_of(const Layer& all, std::int64_t first, std::int64_t count) {
  Layer part = all;
  const std::int64_t hidden = all.geometry().hidden;
  const std::int64_t experts = all.geometry().experts;
  part.options.tokens = count;
  part.logits.assign(all.logits.begin() + first * experts, all.logits.begin() + (first + count) * experts);
  part.hidden.assign(all.hidden.begin() + first * hidden, all.hidden.begin() + (first + count) * hidden);
  part.hidden_scale.clear();
  for (std::int64_t block = 0; block < all.geometry().hidden_blocks(); ++block) {
    const auto row = all.hidden_scale.begin() + block * all.tokens();
    part.hidden_scale.insert(part.hidden_scale.end(), row + first, row + first + count);
  }
  return part;
}

template <typename T>
std::vector<T> of_experts(const std::vector<T>& all, std::int32_t of, const std::vector<std::int32_t>& wanted) {
  const std::size_t each = all.size() / static_cast<std::size_t>(of);
  std::vector<T> chosen;
  for (const std::int32_t expert : wanted) {
    const auto begin = all.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(expert) * each);
    chosen.insert(chosen.end(), begin, begin + static_cast<std::ptrdiff_t>(each));
  }
  return chosen;
}

// The same tokens on a rank that has these experts.
Layer on_rank(const Layer& layer, const std::vector<std::int32_t>& experts, std::int32_t offset) {
  Layer part = layer;
  const std::int32_t all = layer.geometry().experts;
  part.options.geometry.local_experts = static_cast<std::int32_t>(experts.size());
  part.options.local_expert_offset = offset;
  part.w13 = of_experts(layer.w13, all, experts);
  part.w13_scale = of_experts(layer.w13_scale, all, experts);
  part.w2 = of_experts(layer.w2, all, experts);
  part.w2_scale = of_experts(layer.w2_scale, all, experts);
  return part;
}

double relative_l2(const std::vector<std::uint16_t>& found, const std::vector<std::uint16_t>& expected) {
  EXPECT_EQ(expected.size(), found.size());
  double error = 0.0;
  double norm = 0.0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double value = contract::bf16_decode(expected[i]);
    const double difference = contract::bf16_decode(found[i]) - value;
    error += difference * difference;
    norm += value * value;
  }
  return norm > 0.0 ? std::sqrt(error / norm) : error;
}

struct Sharing {
  const char* name;
  std::vector<std::int64_t> tokens;                // of each rank
  std::vector<std::vector<std::int32_t>> experts;  // of each rank; empty: consecutive
  std::int32_t pieces;                             // 0: gather

  std::int32_t ranks() const { return static_cast<std::int32_t>(tokens.size()); }
  std::vector<std::int32_t> experts_of(std::int32_t rank) const {
    return experts.empty() ? ep::consecutive_experts(rank, geometry_of_all().experts / ranks())
                           : experts[static_cast<std::size_t>(rank)];
  }
  std::int32_t offset_of(std::int32_t rank) const {
    return experts.empty() ? rank * geometry_of_all().experts / ranks() : 0;
  }
};

// Every second expert on one rank, the rest on the other, and the first eight on both.
std::vector<std::vector<std::int32_t>> replicated() {
  std::vector<std::vector<std::int32_t>> experts(2);
  for (std::int32_t e = 0; e < 32; ++e) {
    for (std::int32_t r = 0; r < 2; ++r) {
      if (e < 8 || e % 2 == r) experts[static_cast<std::size_t>(r)].push_back(e);
    }
  }
  std::reverse(experts[1].begin(), experts[1].end());
  return experts;
}

const Sharing kSharings[] = {
    {"gather", {5, 5}, {}, 0},
    {"gather, uneven", {33, 7}, {}, 0},
    {"gather, nobody on rank 0", {0, 9}, {}, 0},
    {"gather, four ranks", {3, 0, 40, 1}, {}, 0},
    {"gather, replicated", {21, 30}, replicated(), 0},
    {"exchange", {64, 64}, {}, 1},
    {"exchange in pieces, uneven", {100, 37}, {}, 3},
    {"exchange, four ranks", {17, 0, 50, 64}, {}, 2},
    {"exchange, replicated", {40, 41}, replicated(), 2},
};

// ---- the shares in turn

// One rank, as far as it is without the others.
struct Share {
  Layer layer;
  DeviceCall call;
  kernels::Bound bound;
  DeviceArray<std::int32_t> ids;
  DeviceArray<float> weights;
  DeviceArray<std::uint8_t> records, received;
  DeviceArray<float> scales, parts, back;
  DeviceArray<std::int32_t> local_ids;
};

class Shares {
 public:
  Shares(const Sharing& sharing, const Layer& all, Path path) : sharing_(sharing) {
    slots_ = *std::max_element(sharing.tokens.begin(), sharing.tokens.end());
    pieces_ = std::max(sharing.pieces, 1);
    slots_ = ep::round_up(slots_, pieces_);
    layout_ = records::record_layout(all.geometry());
    std::vector<std::vector<std::int32_t>> experts(sharing.tokens.size());
    for (std::size_t r = 0; r < experts.size(); ++r) experts[r] = sharing.experts_of(static_cast<std::int32_t>(r));
    const auto lists = ep::owner_lists(experts, all.geometry().experts);
    EXPECT_TRUE(lists.ok()) << lists.status().message();
    begin_ = DeviceArray<std::int32_t>(lists.value().begin);
    owners_ = DeviceArray<records::Owner>(lists.value().owners);
    EXPECT_TRUE(records::prepare().ok());
    std::int64_t first = 0;
    for (std::int32_t r = 0; r < sharing.ranks(); ++r) {
      const std::int64_t count = sharing.tokens[static_cast<std::size_t>(r)];
      shares_.push_back(
          share(on_rank(tokens_of(all, first, count), sharing.experts_of(r), sharing.offset_of(r)), path));
      first += count;
    }
  }

  // The bf16 rows of each rank's tokens, one rank after the other.
  std::vector<std::uint16_t> run() {
    for (Share& s : shares_) pack(s);
    for (std::int32_t r = 0; r < sharing_.ranks(); ++r) compute(r);
    std::vector<std::uint16_t> rows;
    for (std::int32_t r = 0; r < sharing_.ranks(); ++r) {
      const std::vector<std::uint16_t> mine = sum(r);
      rows.insert(rows.end(), mine.begin(), mine.end());
    }
    return rows;
  }

 private:
  Share share(const Layer& layer, Path path) const {
    const contract::Geometry& g = layer.geometry();
    const auto size = [](std::int64_t count) { return static_cast<std::size_t>(count); };
    const std::int64_t all = slots_ * sharing_.ranks();
    Share s{layer,
            DeviceCall(layer),
            {},
            DeviceArray<std::int32_t>(size(slots_ * g.top_k)),
            DeviceArray<float>(size(slots_ * g.top_k)),
            DeviceArray<std::uint8_t>(size(slots_ * layout_.bytes)),
            DeviceArray<std::uint8_t>(size(all * layout_.bytes)),
            DeviceArray<float>(size(all * g.hidden_blocks())),
            DeviceArray<float>(size(all * g.hidden)),
            DeviceArray<float>(size(all * g.hidden)),
            DeviceArray<std::int32_t>(size(all * g.top_k))};
    kernels::Request request;
    request.geometry = g;
    request.max_tokens = all;
    request.device = device_here();
    request.path = path;
    EXPECT_TRUE(kernels::bind(kernels::make_plan(request), s.call.weights, &s.bound).ok());
    return s;
  }

  void pack(const Share& s) const {
    const contract::RoutedPicks picks{s.ids.get(), s.weights.get()};
    EXPECT_TRUE(kernels::launch_route(s.bound, s.call.activations, picks, nullptr).ok());
    EXPECT_TRUE(records::launch_pack(layout_, s.call.activations, picks, slots_, s.records.get(), false, nullptr).ok());
  }

  static void copy(void* to, const void* from, std::int64_t bytes) {
    ASSERT_EQ(cudaSuccess, cudaMemcpy(to, from, static_cast<std::size_t>(bytes), cudaMemcpyDeviceToDevice));
  }

  std::vector<OperatorCall> calls_of(std::int32_t rank) const {
    if (sharing_.pieces == 0) return {ep::all_of_gather(sharing_.ranks(), slots_)};
    std::vector<OperatorCall> calls = {ep::own_of_exchange(sharing_.ranks(), rank, slots_, 0)};
    for (std::int32_t p = 0; p < pieces_; ++p) {
      calls.push_back(ep::piece_of_exchange(sharing_.ranks(), rank, slots_, pieces_, p));
    }
    calls.push_back(ep::own_of_exchange(sharing_.ranks(), rank, slots_, 1));
    return calls;
  }

  // Receives, computes, and puts each part where its owner looks for it.
  void compute(std::int32_t rank) {
    Share& s = shares_[static_cast<std::size_t>(rank)];
    const contract::Geometry& g = s.layer.geometry();
    const std::int64_t piece_slots = slots_ / pieces_;
    for (const OperatorCall& call : calls_of(rank)) {
      const std::int64_t count = call.run.records();
      for (std::int64_t i = 0; i < count && !call.own; ++i) {
        const Share& from = shares_[static_cast<std::size_t>(call.run.rank_of(i))];
        copy(s.received.get() + (call.first_record + i) * layout_.bytes,
             from.records.get() + call.run.token_of(i) * layout_.bytes, layout_.bytes);
      }
      const std::uint8_t* const input = call.own ? s.records.get() + call.run.first_token * layout_.bytes
                                                 : s.received.get() + call.first_record * layout_.bytes;
      float* const scales = s.scales.get() + call.first_record * g.hidden_blocks();
      std::int32_t* const ids = s.local_ids.get() + call.first_record * g.top_k;
      EXPECT_TRUE(records::launch_unpack(layout_, call.run, {begin_.get(), owners_.get()}, rank,
                                         sharing_.offset_of(rank), input, scales, ids, false, nullptr)
                      .ok());
      contract::Activations a;
      a.tokens = count;
      a.hidden = input;
      a.hidden_pitch = layout_.bytes;
      a.hidden_scale = scales;
      a.hidden_scale_pitch = count;
      a.output = s.parts.get() + call.first_record * g.hidden;
      a.output_type = contract::FloatType::f32;
      a.output_pitch = g.hidden;
      const contract::Picks picks{ids, g.top_k, reinterpret_cast<const float*>(input + layout_.weights_at),
                                  layout_.bytes / 4};
      const DeviceArray<std::uint8_t> workspace(s.bound.plan.workspace_bytes);
      const kernels::Error error = kernels::launch_prerouted(s.bound, a, picks, workspace.get(), nullptr);
      EXPECT_TRUE(error.ok()) << error.kernel << ": " << kernels::error_text(error);
      EXPECT_EQ(cudaSuccess, cudaDeviceSynchronize());
      for (std::int64_t i = 0; i < count; ++i) {
        const std::int32_t owner = call.run.rank_of(i);
        if (owner == rank) continue;
        const std::int64_t row = records::part_row(call.run.token_of(i), rank, owner, sharing_.ranks(), piece_slots);
        copy(shares_[static_cast<std::size_t>(owner)].back.get() + row * g.hidden,
             s.parts.get() + (call.first_record + i) * g.hidden, g.hidden * 4);
      }
    }
  }

  std::vector<std::uint16_t> sum(std::int32_t rank) const {
    const Share& s = shares_[static_cast<std::size_t>(rank)];
    const std::int64_t hidden = s.layer.geometry().hidden;
    const std::int64_t own = sharing_.pieces == 0 ? rank * slots_ : (sharing_.ranks() - 1) * slots_;
    records::SumParams p;
    p.tokens = s.layer.tokens();
    p.hidden = hidden;
    p.piece_slots = slots_ / pieces_;
    p.me = rank;
    p.ranks = sharing_.ranks();
    p.own = s.parts.get() + own * hidden;
    p.back = s.back.get();
    p.output = s.call.activations.output;
    p.output_pitch = s.call.activations.output_pitch;
    EXPECT_TRUE(records::launch_sum(p, false, nullptr).ok());
    return s.call.output();
  }

  const Sharing& sharing_;
  std::int64_t slots_ = 0;
  std::int32_t pieces_ = 1;
  records::RecordLayout layout_;
  DeviceArray<std::int32_t> begin_;
  DeviceArray<records::Owner> owners_;
  std::vector<Share> shares_;
};

std::int64_t all_tokens(const Sharing& sharing) {
  std::int64_t tokens = 0;
  for (const std::int64_t count : sharing.tokens) tokens += count;
  return tokens;
}

TEST_F(ExpertParallelTest, shares_in_turn_add_up_to_one_rank_with_every_expert) {
  std::uint32_t seed = 1;
  for (const Sharing& sharing : kSharings) {
    const Layer all = layer_of(all_tokens(sharing), ++seed);
    for (const Path path : paths_here(all.geometry())) {
      SCOPED_TRACE(std::string(sharing.name) + " on " + std::string(name_of(path)));
      const std::vector<std::uint16_t> expected = output_of(all, path);
      const std::vector<std::uint16_t> found = Shares(sharing, all, path).run();
      EXPECT_LE(relative_l2(found, expected), gates_of_narrow_layers(path).requantised);
      EXPECT_EQ(found, Shares(sharing, all, path).run());
    }
  }
}

TEST_F(ExpertParallelTest, a_nan_on_one_rank_reaches_its_token_alone) {
  for (const Sharing& sharing : kSharings) {
    if (sharing.tokens[1] < 2) continue;
    const Layer clean = layer_of(all_tokens(sharing), 7);
    const std::int64_t token = sharing.tokens[0] + 1;
    const std::int64_t hidden = clean.geometry().hidden;
    Layer dirty = clean;
    dirty.hidden[static_cast<std::size_t>(token * hidden + 5)] = contract::kE4m3NaN;
    for (const Path path : paths_here(clean.geometry())) {
      SCOPED_TRACE(std::string(sharing.name) + " on " + std::string(name_of(path)));
      const std::vector<std::uint16_t> expected = Shares(sharing, clean, path).run();
      const std::vector<std::uint16_t> found = Shares(sharing, dirty, path).run();
      for (std::size_t i = 0; i < found.size(); ++i) {
        const bool own = static_cast<std::int64_t>(i) / hidden == token;
        ASSERT_EQ(own, std::isnan(contract::bf16_decode(found[i]))) << i;
        if (own) continue;
        ASSERT_EQ(expected[i], found[i]) << i;
      }
    }
  }
}

// ---- whole groups

class GroupTest : public GpuTest {
 protected:
  void SetUp() override {
    GpuTest::SetUp();
    if (IsSkipped()) return;
    int devices = 0;
    ASSERT_EQ(cudaSuccess, cudaGetDeviceCount(&devices));
    if (devices < 2) GTEST_SKIP() << "one GPU";
    const auto nccl = ep::nccl::load();
    if (!nccl.ok()) GTEST_SKIP() << nccl.status().message();
    nccl_ = nccl.value();
  }

  // body(rank, communicator) on a thread a GPU. Aborted communicators are the body's business: it says so by returning false.
  void on_ranks(std::int32_t ranks, const std::function<bool(std::int32_t, ep::nccl::Comm)>& body) const {
    ep::nccl::UniqueId id{};
    ASSERT_EQ(0, nccl_->get_unique_id(&id));
    std::vector<std::thread> threads;
    threads.reserve(static_cast<std::size_t>(ranks));
    for (std::int32_t rank = 0; rank < ranks; ++rank) {
      threads.emplace_back([&, rank] {
        ASSERT_EQ(cudaSuccess, cudaSetDevice(rank));
        ep::nccl::Comm comm = nullptr;
        ASSERT_EQ(0, nccl_->make_comm(&comm, ranks, id, rank));
        if (body(rank, comm)) nccl_->comm_destroy(comm);
      });
    }
    for (std::thread& thread : threads) thread.join();
  }

  const ep::nccl::Functions* nccl_ = nullptr;
};

Geometry public_of(const contract::Geometry& g) {
  Geometry geometry;
  geometry.experts = g.experts;
  geometry.hidden = g.hidden;
  geometry.intermediate = g.intermediate;
  geometry.local_experts = g.local_experts;
  geometry.top_k = g.top_k;
  geometry.n_group = g.n_group;
  geometry.topk_group = g.topk_group;
  return geometry;
}

// One rank's arguments of the public API.
struct RankCall {
  Layer layer;
  DeviceCall call;
  Weights weights;
  Activations activations;
  Tensor output;

  RankCall(const Layer& of, std::int32_t rank) : layer(of), call(of) {
    using enum DType;
    const Device device{DeviceType::cuda, rank};
    const contract::Geometry& g = of.geometry();
    const std::int64_t local = g.local_experts;
    const auto place = [&](const void* data, DType type, std::initializer_list<std::int64_t> shape) {
      return Tensor::contiguous(data, type, device, shape);
    };
    weights.local_expert_offset = of.options.local_expert_offset;
    weights.routed_scaling_factor = call.weights.routed_scaling_factor;
    weights.routing_bias = place(call.weights.routing_bias, bfloat16, {g.experts});
    weights.gemm1_weights = place(call.weights.w13, float8_e4m3, {local, 2 * g.intermediate, g.hidden});
    weights.gemm1_weights_scale =
        place(call.weights.w13_scale, float32, {local, 2 * g.intermediate_blocks(), g.hidden_blocks()});
    weights.gemm2_weights = place(call.weights.w2, float8_e4m3, {local, g.hidden, g.intermediate});
    weights.gemm2_weights_scale =
        place(call.weights.w2_scale, float32, {local, g.hidden_blocks(), g.intermediate_blocks()});
    activations.routing_logits = place(call.activations.routing_logits, float32, {of.tokens(), g.experts});
    activations.hidden_states = place(call.activations.hidden, float8_e4m3, {of.tokens(), g.hidden});
    activations.hidden_states_scale = place(call.activations.hidden_scale, float32, {g.hidden_blocks(), of.tokens()});
    output = place(call.activations.output, bfloat16, {of.tokens(), g.hidden});
  }
};

Options backend_of(Path path) {
  Options options;
  options.backend = path == Path::hopper ? Backend::hopper : Backend::portable;
  return options;
}

// Rank's rows after three calls, the last two of them replays of a captured graph; fails the test where bits differ.
std::vector<std::uint16_t> rows_of_group(const Sharing& sharing, const Layer& all, Path path, std::int32_t rank,
                                         ep::nccl::Comm comm, const EpOptions& given) {
  std::int64_t first = 0;
  for (std::int32_t r = 0; r < rank; ++r) first += sharing.tokens[static_cast<std::size_t>(r)];
  const std::int64_t count = sharing.tokens[static_cast<std::size_t>(rank)];
  const std::vector<std::int32_t> experts = sharing.experts_of(rank);
  RankCall call(on_rank(tokens_of(all, first, count), experts, sharing.offset_of(rank)), rank);
  EpOptions options = given;
  options.way = sharing.pieces == 0 ? EpWay::gather : EpWay::exchange;
  options.pieces = sharing.pieces;
  options.expert_map = sharing.experts.empty() ? nullptr : experts.data();
  const std::int64_t most = *std::max_element(sharing.tokens.begin(), sharing.tokens.end());
  const auto group = EpGroup::create(public_of(call.layer.geometry()), 2 * most,
                                     query_device({DeviceType::cuda, rank}).value(), comm, options, backend_of(path));
  EXPECT_TRUE(group.ok()) << group.status().message();
  if (!group.ok()) return {};
  const auto bound = group.value().bind(call.weights);
  EXPECT_TRUE(bound.ok()) << bound.status().message();
  if (!bound.ok()) return {};
  const std::size_t bytes = group.value().workspace().bytes;
  const DeviceArray<std::uint8_t> workspace(bytes);
  cudaStream_t stream = nullptr;
  EXPECT_EQ(cudaSuccess, cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  EXPECT_EQ(cudaSuccess, cudaDeviceSynchronize());
  const auto run = [&] {
    const Status status = bound.value().run(call.activations, call.output, {workspace.get(), bytes}, stream, most);
    EXPECT_TRUE(status.ok()) << status.message();
  };
  run();
  EXPECT_TRUE(group.value().check(stream, 20000).ok());
  const std::vector<std::uint16_t> rows = call.call.output();
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  EXPECT_EQ(cudaSuccess, cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  run();
  EXPECT_EQ(cudaSuccess, cudaStreamEndCapture(stream, &graph));
  EXPECT_EQ(cudaSuccess, cudaGraphInstantiate(&exec, graph, 0));
  for (int replay = 0; replay < 2; ++replay) {
    if (count > 0) call.call.poison_output();
    EXPECT_EQ(cudaSuccess, cudaDeviceSynchronize());
    EXPECT_EQ(cudaSuccess, cudaGraphLaunch(exec, stream));
    EXPECT_TRUE(group.value().check(stream, 20000).ok());
    EXPECT_EQ(rows, call.call.output());
  }
  cudaGraphExecDestroy(exec);
  cudaGraphDestroy(graph);
  cudaStreamDestroy(stream);
  return rows;
}

TEST_F(GroupTest, two_ranks_give_the_rows_of_one_with_every_expert) {
  std::uint32_t seed = 20;
  for (const Sharing& sharing : kSharings) {
    if (sharing.ranks() != 2) continue;
    const Layer all = layer_of(all_tokens(sharing), ++seed);
    for (const Path path : paths_here(all.geometry())) {
      for (const std::int32_t serial : {0, 1}) {
        if (sharing.pieces == 0 && serial == 1) continue;
        SCOPED_TRACE(std::string(sharing.name) + " on " + std::string(name_of(path)));
        ASSERT_EQ(cudaSuccess, cudaSetDevice(0));
        const std::vector<std::uint16_t> expected = output_of(all, path);
        ep::ThreadBoard board;
        EpOptions options;
        options.serial = serial;
        options.board = board.board();
        std::array<std::vector<std::uint16_t>, 2> rows;
        on_ranks(2, [&](std::int32_t rank, ep::nccl::Comm comm) {
          rows[static_cast<std::size_t>(rank)] = rows_of_group(sharing, all, path, rank, comm, options);
          return true;
        });
        rows[0].insert(rows[0].end(), rows[1].begin(), rows[1].end());
        EXPECT_LE(relative_l2(rows[0], expected), gates_of_narrow_layers(path).requantised);
      }
    }
  }
}

TEST_F(GroupTest, ranks_that_disagree_are_told_both_values) {
  std::array<std::string, 2> messages;
  on_ranks(2, [&](std::int32_t rank, ep::nccl::Comm comm) {
    contract::Geometry g = geometry_of_all();
    g.local_experts = 16;
    if (rank == 1) g.hidden = 640;
    const auto group = EpGroup::create(public_of(g), 16, query_device({DeviceType::cuda, rank}).value(), comm);
    messages[static_cast<std::size_t>(rank)] = group.status().message();
    return true;
  });
  for (const std::string& message : messages) {
    EXPECT_EQ(message, "layer.hidden: 512 on rank 0, 640 on rank 1, expected the same on every rank");
  }
  on_ranks(2, [&](std::int32_t rank, ep::nccl::Comm comm) {
    contract::Geometry g = geometry_of_all();
    g.local_experts = 16;
    Options options;
    options.batch_invariant = rank == 1;
    const auto group =
        EpGroup::create(public_of(g), 16, query_device({DeviceType::cuda, rank}).value(), comm, EpOptions(), options);
    messages[static_cast<std::size_t>(rank)] = group.status().message();
    return true;
  });
  for (const std::string& message : messages) {
    EXPECT_EQ(message, "options.batch_invariant: 0 on rank 0, 1 on rank 1, expected the same on every rank");
  }
}

TEST_F(GroupTest, a_wrong_offset_is_named) {
  on_ranks(2, [&](std::int32_t rank, ep::nccl::Comm comm) {
    contract::Geometry g = geometry_of_all();
    g.local_experts = 16;
    const auto group = EpGroup::create(public_of(g), 16, query_device({DeviceType::cuda, rank}).value(), comm);
    EXPECT_TRUE(group.ok()) << group.status().message();
    if (!group.ok()) return true;
    const RankCall call(on_rank(layer_of(4, 1), ep::consecutive_experts(rank, 16), 5), rank);
    EXPECT_EQ(group.value().bind(call.weights).status().message(), "local_expert_offset: 5, expected " +
                                                                       std::to_string(16 * rank) + " (rank " +
                                                                       std::to_string(rank) + ", 16 experts a rank)");
    return true;
  });
}

TEST_F(GroupTest, a_rank_that_never_comes_is_named) {
  ep::ThreadBoard board;
  std::string message;
  on_ranks(2, [&](std::int32_t rank, ep::nccl::Comm comm) {
    if (rank == 1) return true;
    contract::Geometry g = geometry_of_all();
    g.local_experts = 16;
    EpOptions options;
    options.board = board.board();
    options.timeout_ms = 500;
    message = EpGroup::create(public_of(g), 16, query_device({DeviceType::cuda, rank}).value(), comm, options)
                  .status()
                  .message();
    return true;
  });
  EXPECT_EQ(message, "EpGroup::create: not done after 500 ms; rank 1 has begun 0 calls, expected 1");
}

TEST_F(GroupTest, a_rank_that_does_not_call_is_named_and_nothing_hangs) {
  const Sharing sharing{"", {4, 4}, {}, 0};
  const Layer all = layer_of(8, 3);
  ep::ThreadBoard board;
  std::string message;
  std::atomic<bool> over = false;
  on_ranks(2, [&](std::int32_t rank, ep::nccl::Comm comm) {
    RankCall call(on_rank(tokens_of(all, 4 * rank, 4), sharing.experts_of(rank), sharing.offset_of(rank)), rank);
    EpOptions options;
    options.board = board.board();
    const auto group = EpGroup::create(public_of(call.layer.geometry()), 4,
                                       query_device({DeviceType::cuda, rank}).value(), comm, options);
    EXPECT_TRUE(group.ok()) << group.status().message();
    const auto bound = group.value().bind(call.weights);
    EXPECT_TRUE(bound.ok()) << bound.status().message();
    const std::size_t bytes = group.value().workspace().bytes;
    const DeviceArray<std::uint8_t> workspace(bytes);
    cudaStream_t stream = nullptr;
    EXPECT_EQ(cudaSuccess, cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    const auto run = [&] { return bound.value().run(call.activations, call.output, {workspace.get(), bytes}, stream); };
    EXPECT_TRUE(run().ok());
    EXPECT_TRUE(group.value().check(stream, 20000).ok());
    if (rank == 1) {
      while (!over) std::this_thread::yield();
    } else {
      EXPECT_TRUE(run().ok());
      message = group.value().check(stream, 1000).message();
      EXPECT_FALSE(run().ok());
      over = true;
    }
    cudaStreamDestroy(stream);
    return false;
  });
  EXPECT_NE(message.find("rank 1 has begun 2 calls, expected 3"), std::string::npos) << message;
}

}  // namespace
}  // namespace blockmoe::test
