// run.cpp: `blockmoe run`: one call of the operator, on a workload or on a file of inputs, timed; the output to a file.
#include <fmt/format.h>

#include <cstdio>
#include <limits>
#include <map>
#include <memory>
#include <string>

#include "call.hpp"
#include "commands.hpp"
#include "error.hpp"
#include "options.hpp"
#include "output_file.hpp"
#include "progress.hpp"
#include "pruning_report.hpp"
#include "verify/oracle.hpp"
#include "workload/inputs.hpp"
#include "workload/safetensors.hpp"
#include "workload_file.hpp"

namespace blockmoe::cli {
namespace {

struct RunOptions {
  std::string workloads;
  std::string uuid;
  std::string inputs;
  std::int64_t tokens = 0;
  std::int32_t local_expert_offset = 0;
  float routed_scaling_factor = 2.5F;
  GeometryOptions geometry;
  DrawOptions draw;
  BackendOptions backend;
  std::string output;
  std::string save_inputs;
  bool quiet = false;
};

constexpr const char* kRunFooter =
    R"(One of --uuid, --tokens and --inputs says what runs. A file of inputs holds the operator's tensors under their names:
routing_logits, routing_bias, hidden_states, hidden_states_scale, gemm1_weights, gemm1_weights_scale, gemm2_weights,
gemm2_weights_scale, and, as tensors of one element, local_expert_offset and routed_scaling_factor; in its metadata
top_k, n_group and topk_group. What the file does not say the options do.

Examples:
  blockmoe run --uuid e05c6c03                                   a shape of the benchmark
  blockmoe run --tokens 64 --hidden 2048 --intermediate 512      drawn inputs of another geometry
  blockmoe run --uuid e05c6c03 --save-inputs in.safetensors --output out.safetensors
  blockmoe run --inputs in.safetensors --output out.safetensors  a call on your own tensors)";

void add_options(CLI::App& app, RunOptions& o) {
  CLI::Option* const workloads =
      app.add_option("--workloads", o.workloads, "JSONL file of workloads; without it, the benchmark's 19 shapes")
          ->type_name("FILE")
          ->group("Workload");
  CLI::Option* const uuid = app.add_option("--uuid", o.uuid, "The row that runs; a beginning that one row has will do")
                                ->type_name("U")
                                ->group("Workload");
  CLI::Option* const tokens = app.add_option("--tokens", o.tokens, "Tokens, T, of a drawn call of the geometry below")
                                  ->type_name("T")
                                  ->check(whole_number(0, contract::kMaxTokens))
                                  ->group("Workload");
  CLI::Option* const inputs = app.add_option("--inputs", o.inputs, "Safetensors file of the operator's tensors")
                                  ->type_name("FILE")
                                  ->group("Workload");
  workloads->needs(uuid);
  uuid->excludes(tokens)->excludes(inputs);
  tokens->excludes(inputs);
  o.draw.add(app);
  o.geometry.add(app);
  app.add_option("--local-expert-offset", o.local_expert_offset, "Global number of local expert 0")
      ->type_name("N")
      ->check(whole_number(std::numeric_limits<std::int32_t>::min(), std::numeric_limits<std::int32_t>::max()))
      ->capture_default_str()
      ->group("Geometry");
  app.add_option("--routed-scaling-factor", o.routed_scaling_factor, "Factor of every routing weight")
      ->type_name("X")
      ->check(finite_in(std::numeric_limits<float>::lowest(), std::numeric_limits<float>::max()))
      ->capture_default_str()
      ->group("Geometry");
  // A row says all of these itself; a file's shapes say the sizes.
  for (const char* name :
       {"--top-k", "--n-group", "--topk-group", "--local-expert-offset", "--routed-scaling-factor"}) {
    app.get_option(name)->excludes(uuid);
  }
  for (const char* name : {"--hidden", "--intermediate", "--experts", "--local-experts"}) {
    app.get_option(name)->excludes(uuid)->excludes(inputs);
  }
  for (const char* name : {"--profile", "--routing", "--seed"}) app.get_option(name)->excludes(inputs);
  o.backend.add(app);
  app.add_option("--output", o.output, "Safetensors file for the result: output, BF16 [T, H]")
      ->type_name("FILE")
      ->group("Results");
  app.add_option("--save-inputs", o.save_inputs, "Safetensors file for the inputs, as --inputs reads them")
      ->type_name("FILE")
      ->group("Results");
  app.add_flag("--quiet", o.quiet, "Print nothing")->group("Results");
}

workload::Workload chosen_row(const RunOptions& o) {
  return read_rows(find_workload_file(o.workloads), {false, {o.uuid}}).front();
}

workload::Workload drawn_row(const RunOptions& o) {
  workload::Workload row;
  row.tokens = o.tokens;
  row.geometry = o.geometry.geometry;
  row.local_expert_offset = o.local_expert_offset;
  row.routed_scaling_factor = o.routed_scaling_factor;
  return row;
}

// A file that says a number itself must not be told another one.
template <typename T>
void require_same(const CLI::App& app, const char* option, T given, T in_file, const std::string& file) {
  if (app.count(option) == 0 || given == in_file) return;
  refuse(option, fmt::format("{}", given), fmt::format("{}", in_file), file + " says so");
}

workload::Inputs loaded_inputs(const RunOptions& o, const CLI::App& app) {
  const contract::Geometry& g = o.geometry.geometry;
  workload::Inputs inputs = value_or_raise(workload::load_inputs(
      o.inputs, {g.top_k, g.n_group, g.topk_group, o.local_expert_offset, o.routed_scaling_factor}));
  require_same(app, "--top-k", g.top_k, inputs.geometry.top_k, o.inputs);
  require_same(app, "--n-group", g.n_group, inputs.geometry.n_group, o.inputs);
  require_same(app, "--topk-group", g.topk_group, inputs.geometry.topk_group, o.inputs);
  const contract::Weights& w = inputs.weights;
  require_same(app, "--local-expert-offset", o.local_expert_offset, w.local_expert_offset, o.inputs);
  require_same(app, "--routed-scaling-factor", o.routed_scaling_factor, w.routed_scaling_factor, o.inputs);
  return inputs;
}

workload::Inputs inputs_of(const RunOptions& o, const CLI::App& app) {
  if (!o.inputs.empty()) return loaded_inputs(o, app);
  workload::Workload row = o.uuid.empty() ? drawn_row(o) : chosen_row(o);
  o.draw.apply_seed(row);
  return value_or_raise(workload::InputMaker(o.draw.input_options(o.backend.threads)).make(row));
}

void write_output(const std::string& path, const workload::Inputs& inputs, const CallResult& call,
                  const Pruning& pruning) {
  const workload::TensorView view{workload::ElementType::bf16,
                                  {inputs.tokens(), inputs.geometry.hidden},
                                  reinterpret_cast<const std::byte*>(call.output.data()),
                                  call.output.size_bytes()};
  std::map<std::string, std::string> metadata;
  if (const std::string mark = mark_of(pruning); !mark.empty()) metadata["pruning"] = mark;
  const Status status = workload::write_safetensors(path, {{"output", view}}, metadata);
  if (!status.ok()) throw RunError(status.message());
}

int run_run(const RunOptions& o, const CLI::App& app) {
  if (o.uuid.empty() && o.inputs.empty() && app.count("--tokens") == 0) {
    throw InputError("nothing to run: give one of --uuid, --tokens and --inputs");
  }
  if (o.uuid.empty() && o.inputs.empty()) o.geometry.require_valid();
  if (!o.output.empty()) require_replaceable("--output", o.output);
  if (!o.save_inputs.empty()) require_replaceable("--save-inputs", o.save_inputs);
  Caller caller(o.backend.device_info(), o.backend.plan_options());

  Progress progress(!o.quiet);
  progress.begin("run");
  progress.show("making inputs");
  const workload::Inputs inputs = inputs_of(o, app);
  progress.show("running");
  const CallResult call = caller.call(inputs);
  if (!call.repeatable) throw RunError("two calls on the same inputs gave different bits");
  // Rows and active experts, so that zeros can't pass for a result.
  const Pruning& pruning = o.backend.pruning;
  const verify::RoutingFacts routing = verify::routing_facts(inputs.geometry, inputs.weights, inputs.activations,
                                                             o.backend.threads, contract_of(pruning));
  progress.clear();

  if (!o.save_inputs.empty()) {
    const Status status = workload::save_inputs(o.save_inputs, inputs);
    if (!status.ok()) throw RunError(status.message());
  }
  if (!o.output.empty()) write_output(o.output, inputs, call, pruning);
  if (o.quiet) return kAllPassed;
  fmt::print("{} tokens, {} rows, {} of {} local experts active, on {}\n", inputs.tokens(), routing.rows,
             routing.active_experts, inputs.geometry.local_experts, call.path);
  const contract::Geometry& g = inputs.geometry;
  const std::int64_t offset = inputs.weights.local_expert_offset;
  fmt::print("routing: top_k {}, n_group {}, topk_group {}, local experts {} to {} of {}, factor {}\n", g.top_k,
             g.n_group, g.topk_group, offset, offset + g.local_experts - 1, g.experts,
             inputs.weights.routed_scaling_factor);
  fmt::print("{:.1f} us ({:.1f} to {:.1f}), the median of {} runs: {}\n", call.times.median_us, call.times.min_us,
             call.times.max_us, call.times.runs, call.times.how);
  if (const std::string mark = mark_of(pruning); !mark.empty()) fmt::print("{}\n", mark);
  for (const std::string& note : inputs.notes) fmt::print("note: {}\n", note);
  return kAllPassed;
}

}  // namespace

Command add_run(CLI::App& app) {
  app.description("Run the operator on one workload or on a file of inputs.");
  app.footer(kRunFooter);
  const auto options = std::make_shared<RunOptions>();
  add_options(app, *options);
  return [options, &app] { return run_run(*options, app); };
}

}  // namespace blockmoe::cli
