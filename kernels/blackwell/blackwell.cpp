// blackwell.cpp: the path's row: when it runs, and its stages in order. docs/kernels/blackwell.md explains it.
//
// route, pack, arguments, gather, gemm1, swiglu, gemm2, combine: ordinary launches, one behind the other.
#include "blackwell/blackwell.h"

#include <algorithm>
#include <array>
#include <memory>
#include <string>

#include "blackwell/arguments.h"
#include "blackwell/gather.h"
#include "blackwell/products.h"
#include "blackwell/workspace.h"
#include "launch.h"
#include "once_a_context.h"
#include "plan/blackwell_policy.h"
#include "portable/portable.h"
#include "portable/shape.h"
#include "stages/stages.h"
#include "stages/swiglu.h"

namespace blockmoe::kernels::blackwell {
namespace {

constexpr std::array kProductOrder = {Product::gemm1, Product::gemm2};

constexpr std::size_t index_of(Product product) {
  return static_cast<std::size_t>(product);
}
constexpr std::size_t index_of(Implementation implementation) {
  return static_cast<std::size_t>(implementation);
}

// All but mma, which is the portable path's own; in the order of plan::Implementation.
const auto& entries() {
  static const std::array rows = {cutlass_entry(), trtllm_entry()};
  return rows;
}

const plan::PolicyEntry& policy_entry(Policy policy) {
  return *std::find_if(plan::kPolicies.begin(), plan::kPolicies.end(),
                       [&](const plan::PolicyEntry& entry) { return entry.policy == policy; });
}

const ProductEntry& entry_of(Implementation implementation) {
  return entries()[index_of(implementation)];
}

// What a call of some T runs, as the host can say it.
struct Choice {
  plan::ImplementationRule rule;
  plan::TileTable tiles;
  plan::RowType output_types[plan::kProducts] = {plan::RowType::f32, plan::RowType::f32};
  bool may_run[plan::kProducts][plan::kImplementations] = {};
};

plan::ImplementationRule rule_of(const Request& request) {
  std::string ignored;
  const bool wanted = request.policy == Policy::trtllm || request.policy == Policy::reference_b200;
  return {request.policy, request.switches, wanted && entry_of(Implementation::trtllm).supports(request, &ignored)};
}

Choice choose(const Request& request, const plan::ImplementationRule& rule, std::int64_t tokens) {
  const plan::Sizes sizes = plan::sizes_of(request.geometry, tokens);
  Choice c;
  c.rule = rule;
  c.tiles = plan::blackwell_tiles(request.policy, request.geometry, tokens).tiles;
  c.output_types[index_of(Product::gemm2)] = sizes.row_type;
  const std::int64_t most_rows = std::min(sizes.row_capacity, tokens * sizes.picks);
  for (const Product product : kProductOrder) {
    for (std::size_t i = 0; i < plan::kImplementations; ++i) {
      const auto implementation = static_cast<Implementation>(i);
      const bool runs = plan::may_choose(rule, product, implementation, tokens, most_rows);
      c.may_run[index_of(product)][i] = runs;
      if (!runs || implementation == Implementation::mma) continue;
      // Every implementation of a call's gemm2 writes one type; gemm1's are told apart on the device.
      if (product == Product::gemm2 && !entry_of(implementation).gives(sizes.row_type)) {
        c.output_types[index_of(product)] = plan::RowType::bf16;
      }
    }
  }
  return c;
}

// Of the entries that some call of the plan may run, whatever its T: so that its workspace serves them all.
template <typename Figure>
auto most_of_entries(const plan::ImplementationRule& rule, Figure figure) {
  auto most = figure(entry_of(Implementation::cutlass));
  if (rule.trtllm_there) most = std::max(most, figure(entry_of(Implementation::trtllm)));
  return most;
}

std::int32_t row_padding_of(const Request& request, const plan::ImplementationRule& rule) {
  return most_of_entries(rule, [&](const ProductEntry& entry) { return entry.row_padding(request); });
}

std::size_t product_bytes(const Request& request, const plan::ImplementationRule& rule) {
  return most_of_entries(rule, [&](const ProductEntry& entry) { return entry.workspace_bytes(request); });
}

const char* plan_name(const Request& request) {
  const plan::ImplementationRule rule = rule_of(request);
  if (!rule.trtllm_there) return "blackwell/cutlass";
  return request.policy == Policy::trtllm ? "blackwell/trtllm" : "blackwell/reference_b200";
}

std::string explain_product(const Request& request, const Choice& choice, Product product) {
  std::string text = product == Product::gemm1 ? "gemm1: " : "gemm2: ";
  const char* separator = "";
  for (std::size_t i = 0; i < plan::kImplementations; ++i) {
    if (!choice.may_run[index_of(product)][i]) continue;
    const auto implementation = static_cast<Implementation>(i);
    text += separator;
    text += plan::kImplementationNames[i];
    text += ": ";
    text += implementation == Implementation::mma ? "the portable path's, mma.sync on fp16"
                                                  : entry_of(implementation).explain(request, product);
    separator = "; or, as the rows turn out, ";
  }
  return text + "; not run on a B200\n";
}

std::string explain(const Request& request) {
  const plan::ImplementationRule rule = rule_of(request);
  const Choice choice = choose(request, rule, request.max_tokens);
  const plan::PolicyEntry& policy = policy_entry(request.policy);
  std::string text = std::string("policy: ") + policy.name + ": " + policy.reason + "\n";
  std::string why_not;
  if (request.policy != Policy::automatic && request.policy != Policy::cutlass &&
      !entry_of(Implementation::trtllm).supports(request, &why_not)) {
    text += "trtllm: " + why_not + ": cutlass runs in its place\n";
  }
  for (const Product product : kProductOrder) text += explain_product(request, choice, product);
  const plan::RowType usual = plan::sizes_of(request.geometry, request.max_tokens).row_type;
  if (choice.output_types[index_of(Product::gemm2)] != usual) {
    text += "rows: gemm2's in bf16, not in f32, as the cubins write them\n";
  }
  return text;
}

// A build without the products still says what they would be.
bool supports(const Request& request, std::string* why_not) {
  if (request.batch_invariant) {
    *why_not = "batch_invariant: its tiles are chosen by T";
    return false;
  }
  if (request.intermediate_type != contract::IntermediateType::e4m3) {
    *why_not = "intermediate_type: its gemm2 takes one e4m3 code a value, not e4m3x2";
    return false;
  }
  if (entry_of(Implementation::cutlass).supports(request, why_not)) return true;
  if (request.device.compute_capability != kComputeCapability) return false;
  *why_not += "; it would run ";
  std::string lines = explain(request);
  lines.pop_back();
  for (const char c : lines) *why_not += c == '\n' ? std::string("; ") : std::string(1, c);
  return false;
}

plan::Sizes sizes_for(const plan::Sizes& shared, const Choice& choice) {
  plan::Sizes sizes = shared;
  sizes.row_type = choice.output_types[index_of(Product::gemm2)];
  return sizes;
}

// Beyond the shared stages' bytes: its own begin where theirs have `inter` (workspace.h). The largest call of each row type decides.
std::size_t workspace_bytes(const Request& request) {
  const plan::ImplementationRule rule = rule_of(request);
  const std::size_t shared = plan::workspace_bytes(request.geometry, request.max_tokens);
  const auto end_of = [&](std::int64_t tokens) {
    const plan::Sizes sizes = plan::sizes_of(request.geometry, tokens);
    const Choice choice = choose(request, rule, tokens);
    return plan::offsets_of(request.geometry, sizes).inter +
           workspace_at(nullptr, request.geometry, sizes_for(sizes, choice), row_padding_of(request, rule),
                        product_bytes(request, rule))
               .bytes;
  };
  const std::size_t end = std::max(end_of(request.max_tokens),
                                   end_of(std::min(request.max_tokens, plan::most_f32_tokens(request.geometry))));
  return end > shared ? end - shared : 0;
}

struct State {
  Request request;
  plan::ImplementationRule rule;
  std::int32_t row_padding = 4;
  std::size_t product_bytes = 0;
  std::shared_ptr<const void> products[plan::kImplementations];
  int mma_stages = 0;
};

Error prepare_kernels() {
  return first_error([] { return stages::prepare_routing(); }, [] { return prepare_arguments(); },
                     [] { return prepare_gather(); }, [] { return stages::prepare_swiglu(); },
                     [] { return stages::prepare_combine(); });
}

Error bind(const Plan& plan, const contract::Weights&, std::shared_ptr<const void>* opaque_state) {
  static OnceAContext kernels_prepared(current_context);
  static OnceAContext mma_prepared(current_context);
  constexpr std::int32_t kOnlyVariant = 0;
  auto state = std::make_shared<State>();
  state->request = plan.request;
  state->rule = rule_of(plan.request);
  state->row_padding = row_padding_of(plan.request, state->rule);
  state->product_bytes = product_bytes(plan.request, state->rule);
  state->mma_stages = portable::ring_stages_of(plan.request.device, plan.request.geometry);
  Error error = kernels_prepared.run(kOnlyVariant, prepare_kernels);
  for (const ProductEntry& entry : entries()) {
    const bool wanted = entry.implementation == Implementation::cutlass || state->rule.trtllm_there;
    if (error.ok() && wanted) error = entry.bind(plan, &state->products[index_of(entry.implementation)]);
  }
  if (error.ok() && plan.request.policy == Policy::reference_b200 && plan.request.switches.mma_gemm2_rows > 0) {
    error = mma_prepared.run(state->mma_stages, [&] { return portable::prepare_gemm2(state->mma_stages); });
  }
  *opaque_state = std::move(state);
  return error;
}

Groups groups_of(const ProductTables& t, std::int32_t tile, std::int32_t experts) {
  Groups g;
  g.shapes = t.shapes[tile];
  g.activations = t.activations;
  g.weights = t.weights;
  g.outputs = t.outputs;
  g.activation_scales = t.activation_scales;
  g.weight_scales = t.weight_scales;
  g.activation_strides = t.activation_strides;
  g.weight_strides = t.weight_strides;
  g.output_strides = t.output_strides;
  g.activation_scale_layouts = t.activation_scale_layouts;
  g.weight_scale_layouts = t.weight_scale_layouts;
  g.experts = experts;
  return g;
}

// What both products of a chunk have in common, then each one's own.
ProductCall product_call(const stages::Slab& slab, const Workspace& w, const Choice& choice, std::int32_t row_padding,
                         Product product) {
  const contract::Geometry& g = slab.geometry;
  const bool gemm1 = product == Product::gemm1;
  const ProductTables& tables = w.tables[index_of(product)];
  ProductCall c;
  c.product = product;
  c.experts = g.local_experts;
  c.columns = gemm1 ? 2 * g.intermediate : g.hidden;
  c.depth = gemm1 ? g.hidden : g.intermediate;
  c.tokens = slab.call_tokens;
  c.most_rows = std::min(slab.sizes.row_capacity, slab.activations.tokens * slab.sizes.picks);
  c.row_capacity = padded_capacity(g, slab.sizes, row_padding);
  c.row_padding = row_padding;
  c.rows = gemm1 ? w.hidden : w.inter;
  c.row_scale = gemm1 ? w.hidden_scale : w.inter_scale;
  c.weights = gemm1 ? slab.weights.w13 : slab.weights.w2;
  c.weight_scale = gemm1 ? slab.weights.w13_scale : slab.weights.w2_scale;
  c.output = gemm1 ? w.gate_up : w.rows;
  c.output_type = choice.output_types[index_of(product)];
  c.row_begin = w.row_begin;
  c.tiles = choice.tiles;
  for (std::int32_t i = 0; i < choice.tiles.count; ++i) c.groups[i] = groups_of(tables, i, g.local_experts);
  c.workspace = w.product;
  c.sms = slab.sms;
  return c;
}

// One chunk on its way.
struct ChunkCall {
  const State& state;
  const Choice& choice;
  const stages::Slab& slab;
  std::int32_t chunk;
  Workspace workspace;
  ProductCall products[plan::kProducts];

  ChunkCall(const State& state_, const Choice& choice_, const stages::Slab& slab_, std::int32_t chunk_)
      : state(state_), choice(choice_), slab(slab_), chunk(chunk_) {
    workspace = workspace_at(slab.workspace.inter, slab.geometry, sizes_for(slab.sizes, choice), state.row_padding,
                             state.product_bytes);
    for (const Product product : kProductOrder) {
      products[index_of(product)] = product_call(slab, workspace, choice, state.row_padding, product);
    }
  }

  Error arrange(cudaStream_t stream) const {
    ArgumentCall call;
    call.chunk = slab.workspace.chunks + chunk;
    call.expert_begin =
        slab.workspace.expert_begin + static_cast<std::int64_t>(chunk) * (slab.geometry.local_experts + 1);
    call.rule = choice.rule;
    call.products = products;
    call.workspace = workspace;
    return first_error([&] { return launch_arguments(call, stream); },
                       [&] { return launch_gather(slab, chunk, workspace, products[0].row_capacity, stream); });
  }

  // Every implementation that the device may have chosen.
  Error multiply(Product product, cudaStream_t stream) const {
    Error error;
    for (const ProductEntry& entry : entries()) {
      const std::size_t i = index_of(entry.implementation);
      if (!choice.may_run[index_of(product)][i] || !error.ok()) continue;
      ProductCall call = products[index_of(product)];
      call.row_count = workspace.tables[index_of(product)].row_count[i];
      if (!entry.gives(call.output_type)) call.output_type = plan::RowType::bf16;
      error = entry.launch(call, state.products[i].get(), stream);
    }
    if (error.ok() && choice.may_run[index_of(product)][index_of(Implementation::mma)]) error = multiply_by_mma(stream);
    return error;
  }

  // The portable path's gemm2 sees a slab of this one chunk, in this path's order of rows.
  Error multiply_by_mma(cudaStream_t stream) const {
    stages::Slab own = slab;
    own.sizes.row_type = choice.output_types[index_of(Product::gemm2)];
    own.sizes.row_capacity = products[index_of(Product::gemm2)].row_capacity;
    own.workspace.chunks = slab.workspace.chunks + chunk;
    own.workspace.expert_begin = workspace.mma_begin;
    own.workspace.inter = workspace.inter;
    own.workspace.inter_scale = workspace.inter_scale;
    own.workspace.rows = workspace.rows;
    return portable::launch_gemm2(own, 0, state.mma_stages, stream);
  }

  Error activate(cudaStream_t stream) const {
    stages::SwigluCall call;
    call.gate_up = workspace.gate_up;
    call.intermediate = slab.geometry.intermediate;
    call.up_column = slab.weights.up_row(call.intermediate);
    call.gate_column = slab.weights.gate_row(call.intermediate);
    call.scale_pitch = workspace.tables[index_of(Product::gemm2)].scale_pitch;
    call.row_capacity = products[index_of(Product::gemm1)].row_capacity;
    call.inter = workspace.inter;
    call.inter_scale = workspace.inter_scale;
    call.sms = slab.sms;
    Error error;
    for (const plan::RowType type : {plan::RowType::f32, plan::RowType::bf16}) {
      const Implementation writer = type == plan::RowType::f32 ? Implementation::cutlass : Implementation::trtllm;
      if (!error.ok() || !choice.may_run[index_of(Product::gemm1)][index_of(writer)]) continue;
      call.type = type;
      call.rows = workspace.tables[index_of(Product::gemm1)].rows + static_cast<std::size_t>(type);
      error = stages::launch_swiglu(call, stream);
    }
    return error;
  }

  Error combine(cudaStream_t stream) const {
    stages::Slab own = slab;
    own.sizes.row_type = choice.output_types[index_of(Product::gemm2)];
    own.sizes.row_capacity = products[index_of(Product::gemm2)].row_capacity;
    own.workspace.pick_row = workspace.pick_row;
    own.workspace.rows = workspace.rows;
    return stages::launch_combine(own, chunk, stream);
  }
};

Error launch_slab(const stages::Slab& slab, const void* opaque_state, cudaStream_t stream) {
  const auto& state = *static_cast<const State*>(opaque_state);
  const Choice choice = choose(state.request, state.rule, slab.call_tokens);
  const auto wanted = [&](kernels::Stage stage, auto launch) {
    return (slab.wanted & stage) != 0 ? launch() : Error{};
  };
  Error error = stages::launch_routing(slab, stream);
  for (std::int32_t chunk = 0; chunk < slab.sizes.max_chunks && error.ok(); ++chunk) {
    const ChunkCall call(state, choice, slab, chunk);
    error = first_error(
        [&] {
          return wanted(kGemm1, [&] {
            return first_error([&] { return call.arrange(stream); },
                               [&] { return call.multiply(Product::gemm1, stream); },
                               [&] { return call.activate(stream); });
          });
        },
        [&] { return wanted(kGemm2, [&] { return call.multiply(Product::gemm2, stream); }); },
        [&] { return wanted(kCombine, [&] { return call.combine(stream); }); });
  }
  return error;
}

}  // namespace

PathEntry path_entry() {
  return {Path::blackwell, "blackwell", supports, plan_name, explain, workspace_bytes, bind, launch_slab};
}

}  // namespace blockmoe::kernels::blackwell
