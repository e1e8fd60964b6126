// bench_ep.cpp: the measurements of `bench --ep`. All ranks go through the same steps; a barrier stands between them.
#include "bench_ep.hpp"

#include "error.hpp"

#if BLOCKMOE_WITH_CUDA

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <barrier>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <numeric>
#include <optional>
#include <thread>

#include "blockmoe/blockmoe.hpp"
#include "contract/e4m3.h"
#include "ep/access.hpp"
#include "ep/cost_model.hpp"
#include "ep/nccl.hpp"
#include "ep/thread_board.hpp"
#include "measure/cuda_check.hpp"
#include "workload/generator.hpp"
#include "workload/inputs.hpp"

namespace blockmoe::cli {
namespace {

using measure::DeviceMemory;

constexpr int kBatches = 7;                 // timed, of `runs` replays each; the median counts
constexpr double kBatchUs = 25'000;         // of a batch: longer calls are replayed fewer times, but three
constexpr int kWarmup = 3;                  // replays before them
constexpr std::int32_t kDrawnExperts = 32;  // whose codes are drawn; the others repeat them, with scales of their own
constexpr int kFaultMs = 2000;              // after which the ranks that called give up on the one that did not

void require_cuda(cudaError_t code, const char* call) {
  require_ok(measure::cuda_status(code, call));
}

// What all ranks share.
struct Shared {
  const EpBenchOptions& options;
  const Options& plan_options;
  EpBenchReport& report;
  const std::function<void(const EpBenchRow&)>& done;
  const workload::Inputs& inputs;       // kDrawnExperts experts, the tokens of all ranks at the largest T
  const std::vector<float>& w13_scale;  // [E, ...], of all experts
  const std::vector<float>& w2_scale;
  const ep::nccl::Functions& nccl;
  std::array<ep::nccl::UniqueId, 2> ids;  // of a communicator for each way
  std::barrier<>& barrier;
  std::array<ep::ThreadBoard, 4>& boards;     // one a group
  std::vector<std::vector<double>>& of_rank;  // what each rank measured last
};

enum class Variant { gather, overlapped, serial };
constexpr std::array kVariants = {Variant::gather, Variant::overlapped, Variant::serial};

class Rank {
 public:
  Rank(const Shared& shared, std::int32_t number) : s_(shared), rank_(number), device_{DeviceType::cuda, number} {
    require_cuda(cudaSetDevice(rank_), "cudaSetDevice");
    info_ = value_or_raise(query_device(device_));
    require_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate");
    make_comm(s_.ids[0], ep::nccl::Config::kUndefined, &gather_comm_);
    make_comm(s_.ids[1], kEpExchangeCtas, &exchange_comm_);
    layer_.local_experts = layer_.experts / s_.options.ranks;
    most_ = *std::max_element(s_.options.tokens.begin(), s_.options.tokens.end());
    upload();
    make_groups();
  }

  void run() {
    for (const std::int64_t tokens : s_.options.tokens) measure(tokens);
    if (s_.options.fault) break_off();
  }

 private:
  void require_code(ep::nccl::Code code, const char* call) const {
    if (code != 0) throw RunError(fmt::format("{}: {}", call, s_.nccl.get_error_string(code)));
  }

  void make_comm(const ep::nccl::UniqueId& id, int max_ctas, ep::nccl::Comm* comm) const {
    require_code(s_.nccl.make_comm(comm, s_.options.ranks, id, rank_, max_ctas), "ncclCommInitRankConfig");
  }

  void* keep(std::size_t bytes, const char* what) {
    memory_.push_back(value_or_raise(measure::allocate(bytes, what)));
    return memory_.back().get();
  }
  void* upload(const void* from, std::size_t bytes, const char* what) {
    void* const to = keep(bytes, what);
    require_cuda(cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice), "cudaMemcpy");
    return to;
  }

  // The codes of kDrawnExperts experts, again and again.
  void* upload_codes(const std::uint8_t* codes, std::size_t bytes_of_expert, const char* what) {
    const auto experts = static_cast<std::size_t>(layer_.experts);
    const std::size_t drawn = kDrawnExperts * bytes_of_expert;
    auto* const all = static_cast<std::uint8_t*>(keep(experts * bytes_of_expert, what));
    require_cuda(cudaMemcpy(all, codes, drawn, cudaMemcpyHostToDevice), "cudaMemcpy");
    for (std::size_t done = drawn; done < experts * bytes_of_expert; done += drawn) {
      require_cuda(cudaMemcpy(all + done, all, drawn, cudaMemcpyDeviceToDevice), "cudaMemcpy");
    }
    return all;
  }

  void upload() {
    const contract::Geometry& g = s_.inputs.geometry;
    const std::int64_t all = s_.inputs.tokens();
    const auto expert13 = static_cast<std::size_t>(2 * g.intermediate * g.hidden);
    w13_ = static_cast<std::uint8_t*>(upload_codes(s_.inputs.weights.w13, expert13, "gemm1_weights"));
    w2_ = static_cast<std::uint8_t*>(upload_codes(s_.inputs.weights.w2, expert13 / 2, "gemm2_weights"));
    w13_scale_ = static_cast<float*>(upload(s_.w13_scale.data(), s_.w13_scale.size() * 4, "gemm1_weights_scale"));
    w2_scale_ = static_cast<float*>(upload(s_.w2_scale.data(), s_.w2_scale.size() * 4, "gemm2_weights_scale"));
    const Activations on_host = s_.inputs.public_activations();
    all_ = on_host;
    const auto place = [&](Tensor& tensor, std::int64_t bytes, const char* what) {
      tensor.data = upload(tensor.data, static_cast<std::size_t>(bytes), what);
      tensor.device = device_;
    };
    place(all_.routing_logits, all * g.experts * 4, "routing_logits");
    place(all_.hidden_states, all * g.hidden, "hidden_states");
    place(all_.hidden_states_scale, all * g.hidden_blocks() * 4, "hidden_states_scale");
    bias_ = s_.inputs.public_weights().routing_bias;
    if (bias_.data != nullptr) place(bias_, g.experts * (bias_.dtype == DType::float32 ? 4 : 2), "routing_bias");
    output_ = keep(static_cast<std::size_t>(all * g.hidden * 2), "output");
  }

  // Of `count` experts from `first` on.
  Weights weights_of(std::int32_t first, std::int32_t count) const {
    const std::int64_t h = layer_.hidden;
    const std::int64_t i = layer_.intermediate;
    Weights w;
    w.local_expert_offset = first;
    w.routed_scaling_factor = 2.5F;
    w.routing_bias = bias_;
    w.gemm1_weights = Tensor::contiguous(w13_ + first * 2 * i * h, DType::float8_e4m3, device_, {count, 2 * i, h});
    w.gemm1_weights_scale = Tensor::contiguous(w13_scale_ + first * (2 * i / 128) * (h / 128), DType::float32, device_,
                                               {count, 2 * i / 128, h / 128});
    w.gemm2_weights = Tensor::contiguous(w2_ + first * h * i, DType::float8_e4m3, device_, {count, h, i});
    w.gemm2_weights_scale = Tensor::contiguous(w2_scale_ + first * (h / 128) * (i / 128), DType::float32, device_,
                                               {count, h / 128, i / 128});
    return w;
  }

  // Tokens [first, first + count) of all.
  Activations tokens_of(std::int64_t first, std::int64_t count) const {
    Activations a;
    a.routing_logits = Tensor::contiguous(static_cast<float*>(all_.routing_logits.data) + first * layer_.experts,
                                          DType::float32, device_, {count, layer_.experts});
    a.hidden_states = Tensor::contiguous(static_cast<std::uint8_t*>(all_.hidden_states.data) + first * layer_.hidden,
                                         DType::float8_e4m3, device_, {count, layer_.hidden});
    a.hidden_states_scale = Tensor::pitched(static_cast<float*>(all_.hidden_states_scale.data) + first, DType::float32,
                                            device_, layer_.hidden / 128, count, all_.hidden_states_scale.dim(1));
    return a;
  }
  Tensor output_of(std::int64_t count) const {
    return Tensor::contiguous(output_, DType::bfloat16, device_, {count, layer_.hidden});
  }

  void make_groups() {
    std::size_t most_bytes = 0;
    for (const Variant variant : kVariants) {
      EpOptions options;
      options.way = variant == Variant::gather ? EpWay::gather : EpWay::exchange;
      options.serial = variant == Variant::serial ? 1 : 0;
      options.pieces = s_.options.pieces;
      options.comm_sms = s_.options.comm_sms;
      options.board = s_.boards[groups_.size()].board();
      const ep::nccl::Comm comm = variant == Variant::gather ? gather_comm_ : exchange_comm_;
      groups_.push_back(value_or_raise(EpGroup::create(layer_, most_, info_, comm, options, s_.plan_options)));
      const Weights mine = weights_of(rank_ * layer_.local_experts, layer_.local_experts);
      bound_.push_back(value_or_raise(groups_.back().bind(mine)));
      most_bytes = std::max(most_bytes, groups_.back().workspace().bytes);
    }
    Geometry whole = layer_;
    whole.local_experts = layer_.experts;
    reference_plan_ = value_or_raise(Plan::create(whole, most_, info_, s_.plan_options));
    reference_ = value_or_raise(reference_plan_->bind(weights_of(0, layer_.experts)));
    operator_plan_ = value_or_raise(Plan::create(layer_, most_ * s_.options.ranks, info_, s_.plan_options));
    operator_ = value_or_raise(operator_plan_->bind(weights_of(rank_ * layer_.local_experts, layer_.local_experts)));
    most_bytes = std::max({most_bytes, reference_plan_->workspace().bytes, operator_plan_->workspace().bytes});
    workspace_ = {keep(most_bytes, "workspace"), most_bytes};
    if (rank_ == 0) s_.report.notes.push_back(groups_[1].explain());
  }

  void wait() const { require_cuda(cudaStreamSynchronize(stream_), "cudaStreamSynchronize"); }
  void meet() const { s_.barrier.arrive_and_wait(); }

  using Enqueue = std::function<Status()>;

  // One call as a graph.
  class Graph {
   public:
    Graph(const Enqueue& enqueue, cudaStream_t stream) {
      require_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
      const Status captured = enqueue();
      require_cuda(cudaStreamEndCapture(stream, &graph_), "cudaStreamEndCapture");
      require_ok(captured);
      require_cuda(cudaGraphInstantiate(&exec_, graph_, 0), "cudaGraphInstantiate");
    }
    Graph(const Graph&) = delete;
    Graph& operator=(const Graph&) = delete;
    ~Graph() {
      cudaGraphExecDestroy(exec_);
      cudaGraphDestroy(graph_);
    }
    void replay(cudaStream_t stream) const { require_cuda(cudaGraphLaunch(exec_, stream), "cudaGraphLaunch"); }

   private:
    cudaGraph_t graph_ = nullptr;
    cudaGraphExec_t exec_ = nullptr;
  };

  struct Timed {
    Enqueue enqueue;
    bool ranks_meet;  // each waits in it for the others
  };

  // A replay's time of each call: all ranks replay the same graph at once, back to back. Where ranks meet in it, the slowest rank's
  // mean; where they don't, the mean of what the slowest took in each replay, since no call in which they meet ends sooner. Calls
  // take turns batch by batch, since a card that grows warm slows down.
  std::vector<double> times_us(const std::vector<Timed>& calls) {
    std::vector<std::unique_ptr<Graph>> graphs;
    for (const Timed& call : calls) {
      require_ok(call.enqueue());
      wait();
      meet();
      graphs.push_back(std::make_unique<Graph>(call.enqueue, stream_));
      for (int i = 0; i < kWarmup; ++i) graphs.back()->replay(stream_);
      wait();
    }
    const int most_runs = std::max(3, s_.options.runs);
    std::vector<cudaEvent_t> ends(static_cast<std::size_t>(most_runs) +
                                  1);  // of each replay, after the one before them
    for (cudaEvent_t& end : ends) require_cuda(cudaEventCreate(&end), "cudaEventCreate");
    const auto replay_us = [&](std::size_t call, int runs) {
      meet();
      for (int i = 0; i <= runs; ++i) {  // the first brings the ranks together: the next ones' time is what counts
        graphs[call]->replay(stream_);
        require_cuda(cudaEventRecord(ends[static_cast<std::size_t>(i)], stream_), "cudaEventRecord");
      }
      wait();
      std::vector<double> each;
      for (int i = 0; i < runs; ++i) {
        float ms = 0;
        const auto before = static_cast<std::size_t>(i);
        require_cuda(cudaEventElapsedTime(&ms, ends[before], ends[before + 1]), "cudaEventElapsedTime");
        each.push_back(static_cast<double>(ms) * 1e3);
      }
      return calls[call].ranks_meet ? slowest(mean(each)) : mean(slowest(each));
    };
    std::vector<int> runs;
    runs.reserve(graphs.size());
    for (std::size_t call = 0; call < calls.size(); ++call) {
      runs.push_back(std::clamp(static_cast<int>(kBatchUs / replay_us(call, 1)), 3, most_runs));
    }
    std::vector<std::vector<double>> times(calls.size());
    for (int batch = 0; batch < kBatches; ++batch) {
      for (std::size_t call = 0; call < calls.size(); ++call) {
        times[call].push_back(replay_us(call, runs[call]));
      }
    }
    for (const cudaEvent_t end : ends) cudaEventDestroy(end);
    std::vector<double> medians;
    for (std::vector<double>& of_call : times) {
      std::sort(of_call.begin(), of_call.end());
      medians.push_back(of_call[kBatches / 2]);
    }
    return medians;
  }

  static double mean(const std::vector<double>& values) {
    return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
  }

  // The largest of all ranks' values, number by number.
  std::vector<double> slowest(const std::vector<double>& mine) const {
    s_.of_rank[static_cast<std::size_t>(rank_)] = mine;
    meet();
    std::vector<double> most = mine;
    for (const std::vector<double>& theirs : s_.of_rank) {
      for (std::size_t i = 0; i < most.size(); ++i) most[i] = std::max(most[i], theirs[i]);
    }
    meet();
    return most;
  }
  double slowest(double mine) const { return slowest(std::vector<double>{mine})[0]; }

  std::vector<std::uint16_t> output_after(const Enqueue& enqueue, std::int64_t tokens) {
    const auto values = static_cast<std::size_t>(tokens * layer_.hidden);
    require_cuda(cudaMemset(output_, 0xff, values * 2), "cudaMemset");
    require_ok(enqueue());
    wait();
    std::vector<std::uint16_t> found(values);
    require_cuda(cudaMemcpy(found.data(), output_, values * 2, cudaMemcpyDeviceToHost), "cudaMemcpy");
    return found;
  }

  static double relative_l2(const std::vector<std::uint16_t>& found, const std::vector<std::uint16_t>& expected) {
    double error = 0;
    double norm = 0;
    for (std::size_t i = 0; i < found.size(); ++i) {
      const double value = contract::bf16_decode(expected[i]);
      const double difference = contract::bf16_decode(found[i]) - value;
      error += difference * difference;
      norm += value * value;
    }
    return norm > 0 ? std::sqrt(error / norm) : error;
  }

  Enqueue stages_of(Variant variant, std::int64_t tokens, std::uint32_t stages) const {
    return [this, variant, tokens, stages] {
      return ep::Access::run_stages(bound_[static_cast<std::size_t>(variant)], tokens_of(rank_ * tokens, tokens),
                                    output_of(tokens), workspace_, stream_, tokens, stages);
    };
  }

  void measure(std::int64_t tokens) {
    const std::vector<std::uint16_t> expected = output_after(
        [&] { return reference_->run(tokens_of(rank_ * tokens, tokens), output_of(tokens), workspace_, stream_); },
        tokens);
    const Enqueue alone = [&] {
      const std::int64_t all = tokens * s_.options.ranks;
      return operator_->run(tokens_of(0, all), output_of(all), workspace_, stream_);
    };
    for (const Variant variant : {Variant::gather, Variant::overlapped}) {
      const Enqueue whole = stages_of(variant, tokens, ep::kAllStages);
      const std::vector<std::uint16_t> first = output_after(whole, tokens);
      const bool same = output_after(whole, tokens) == first;
      EpBenchRow row;
      row.tokens = tokens;
      row.way = variant == Variant::gather ? "gather" : "exchange";
      row.relative_l2 = slowest(relative_l2(first, expected));
      row.repeatable = slowest(same ? 0 : 1) == 0;
      const Variant apart = variant == Variant::gather ? Variant::gather : Variant::serial;
      const auto of_serial = [&](std::uint32_t stages) {
        return Timed{stages_of(apart, tokens, stages), (stages & (ep::kExchange | ep::kReturn)) != 0};
      };
      // Those with products stand together: behind the others a card has rested, and then computes a few percent faster. What the
      // first of them, all on one stream, gains so makes `hidden` smaller.
      const std::vector<double> times = times_us({of_serial(ep::kRoute),
                                                  of_serial(ep::kExchange),
                                                  of_serial(ep::kReturn),
                                                  of_serial(ep::kSum),
                                                  of_serial(ep::kAllStages),
                                                  of_serial(ep::kRoute | ep::kProducts | ep::kSum),
                                                  of_serial(ep::kProducts),
                                                  {alone, false},
                                                  {whole, true}});
      row.stages_us = {
          {"route", times[0]}, {"exchange", times[1]}, {"return", times[2]}, {"sum", times[3]}, {"products", times[6]}};
      row.serial_us = apart == Variant::serial ? times[4] : 0;
      row.compute_us = times[5];
      row.operator_us = times[7];
      row.us = times[8];
      predict(variant, &row);
      if (rank_ == 0) {
        s_.report.rows.push_back(row);
        s_.done(row);
      }
      meet();
    }
  }

  void predict(Variant variant, EpBenchRow* row) const {
    ep::EpSizes sizes;
    sizes.layer = s_.inputs.geometry;
    sizes.layer.local_experts = layer_.local_experts;
    sizes.ranks = s_.options.ranks;
    sizes.slots = row->tokens;
    sizes.pieces = s_.options.pieces > 0 ? s_.options.pieces : ep::choose_pieces(sizes.ranks, sizes.slots);
    const EpWay way = variant == Variant::gather ? EpWay::gather : EpWay::exchange;
    const ep::EpCost cost = ep::predict(way, sizes, ep::link_of(sizes.ranks));
    row->predicted_us = {{"route", cost.route_us},
                         {"exchange", cost.exchange_us},
                         {"products", cost.products_us},
                         {"return", cost.return_us},
                         {"total", cost.total_us}};
  }

  // The last rank doesn't call; the others find out.
  void break_off() {
    meet();
    if (rank_ != s_.options.ranks - 1) {
      require_ok(stages_of(Variant::gather, s_.options.tokens.front(), ep::kAllStages)());
      const Status status = groups_[0].check(stream_, kFaultMs);
      if (rank_ == 0) s_.report.fault = status.message();
    }
    meet();
  }

  const Shared& s_;
  std::int32_t rank_;
  Device device_;
  DeviceInfo info_;
  cudaStream_t stream_ = nullptr;
  ep::nccl::Comm gather_comm_ = nullptr;
  ep::nccl::Comm exchange_comm_ = nullptr;
  Geometry layer_;
  std::int64_t most_ = 0;
  std::vector<DeviceMemory> memory_;
  std::uint8_t* w13_ = nullptr;
  std::uint8_t* w2_ = nullptr;
  float* w13_scale_ = nullptr;
  float* w2_scale_ = nullptr;
  Tensor bias_;
  Activations all_;
  void* output_ = nullptr;
  Workspace workspace_;
  std::vector<EpGroup> groups_;  // by Variant
  std::vector<BoundEpGroup> bound_;
  std::optional<Plan> reference_plan_, operator_plan_;
  std::optional<BoundPlan> reference_, operator_;
};

std::vector<float> scales_of(std::int64_t count, workload::DrawStream stream) {
  std::vector<float> scales(static_cast<std::size_t>(count));
  workload::draw_normals(scales.data(), count, /*seed=*/1, stream, /*threads=*/0);
  return scales;
}

}  // namespace

void measure_ep(const EpBenchOptions& options, const Options& plan_options, EpBenchReport& report,
                const std::function<void(const EpBenchRow&)>& done) {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess) devices = 0;
  if (devices < options.ranks)
    refuse("--ranks", fmt::format("{}", options.ranks), fmt::format("at most {}", devices), "GPUs here");
  const ep::nccl::Functions* const nccl = value_or_raise(ep::nccl::load());
  nccl->get_version(&report.nccl);
  report.ranks = options.ranks;
  report.machine = machine_with(value_or_raise(query_device({DeviceType::cuda, 0})));
  report.method = fmt::format(
      "a thread a GPU; each call as a CUDA graph, replayed up to {} times back to back on all ranks at once, the "
      "slowest rank's time a replay (of what has no message in it, the slowest rank's in each replay), median of {} "
      "such "
      "batches in turn with the other calls' and stages'; no flush: the weights of a call's experts are larger than L2",
      options.runs, kBatches);

  workload::Workload row;
  row.uuid = "ep";
  row.geometry.local_experts = kDrawnExperts;
  row.tokens = options.ranks * *std::max_element(options.tokens.begin(), options.tokens.end());
  workload::InputMaker maker{workload::InputOptions()};
  const workload::Inputs inputs = value_or_raise(maker.make(row));
  const contract::Geometry& g = inputs.geometry;
  const std::int64_t blocks = std::int64_t{g.experts} * g.hidden_blocks() * g.intermediate_blocks();
  const std::vector<float> w13_scale = scales_of(2 * blocks, workload::DrawStream::gemm1_weights_scale);
  const std::vector<float> w2_scale = scales_of(blocks, workload::DrawStream::gemm2_weights_scale);

  std::barrier<> barrier(options.ranks);
  std::array<ep::ThreadBoard, 4> boards;
  std::vector<std::vector<double>> of_rank(static_cast<std::size_t>(options.ranks));
  Shared shared{options, plan_options, report, done, inputs, w13_scale, w2_scale, *nccl, {}, barrier, boards, of_rank};
  for (ep::nccl::UniqueId& id : shared.ids) {
    if (nccl->get_unique_id(&id) != 0) throw RunError("ncclGetUniqueId failed");
  }
  std::vector<std::thread> threads;
  threads.reserve(static_cast<std::size_t>(options.ranks));
  for (std::int32_t rank = 0; rank < options.ranks; ++rank) {
    threads.emplace_back([&shared, rank] {
      try {
        Rank(shared, rank).run();
      } catch (const std::exception& error) {
        std::fprintf(stderr, "blockmoe bench: rank %d: %s\n", rank, error.what());
        std::_Exit(kSomethingFailed);  // the other ranks wait for this one, some of them in NCCL
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace blockmoe::cli

#else

namespace blockmoe::cli {

void measure_ep(const EpBenchOptions&, const Options&, EpBenchReport&, const std::function<void(const EpBenchRow&)>&) {
  throw InputError("this build has no GPU backends, and bench measures on a GPU");
}

}  // namespace blockmoe::cli

#endif
