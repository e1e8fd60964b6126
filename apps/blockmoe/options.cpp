#include "options.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <limits>
#include <string_view>
#include <utility>

#include "contract/geometry.h"
#include "error.hpp"
#include "shell.hpp"
#include "workload/token_range.hpp"

namespace blockmoe::cli {
namespace {

constexpr std::array<std::pair<std::string_view, Backend>, 5> kBackends{{
    {"auto", Backend::automatic},
    {"cpu", Backend::cpu},
    {"portable", Backend::portable},
    {"hopper", Backend::hopper},
    {"blackwell", Backend::blackwell},
}};

constexpr std::array<std::pair<std::string_view, Policy>, 4> kPolicies{{
    {"auto", Policy::automatic},
    {"reference_b200", Policy::reference_b200},
    {"cutlass", Policy::cutlass},
    {"trtllm", Policy::trtllm},
}};

constexpr std::array<std::pair<std::string_view, IntermediateType>, 2> kIntermediateTypes{{
    {"e4m3", IntermediateType::e4m3},
    {"e4m3x2", IntermediateType::e4m3x2},
}};

constexpr int kMaxThreads = 4096;

// The command line's words have hyphens where the workload library's have underscores.
std::string routing_word(std::string word) {
  std::replace(word.begin(), word.end(), '-', '_');
  return word;
}

std::string in_quotes(const std::string& text) {
  return "'" + text + "'";
}

// "a, b or c"
std::string listed(const std::vector<std::string>& words) {
  std::string text;
  for (std::size_t i = 0; i < words.size(); ++i) {
    text += (i == 0 ? "" : i + 1 == words.size() ? " or " : ", ") + words[i];
  }
  return text;
}

// A check that accepts what `is_good` does.
template <typename IsGood>
CLI::Validator validator(std::string expected, const IsGood& is_good) {
  return {[expected = std::move(expected), is_good](std::string& text) {
            return is_good(text) ? std::string() : unlike(in_quotes(text), expected);
          },
          "VALUE"};
}

// The whole text as a number, nothing before it and nothing after.
template <typename Number>
std::optional<Number> parsed(const std::string& text) {
  Number number{};
  const char* const end = text.data() + text.size();
  const auto [parsed_to, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc() || parsed_to != end) return std::nullopt;
  return number;
}

std::optional<Device> parse_device(std::string_view word) {
  if (word == "cpu") return Device{};
  if (word == "cuda") return Device{DeviceType::cuda, 0};
  constexpr std::string_view kPrefix = "cuda:";
  if (word.substr(0, kPrefix.size()) != kPrefix) return std::nullopt;
  Device device{DeviceType::cuda, 0};
  const char* const end = word.data() + word.size();
  const auto [parsed_to, error] = std::from_chars(word.data() + kPrefix.size(), end, device.index);
  if (error != std::errc() || parsed_to != end || device.index < 0) return std::nullopt;
  return device;
}

// The library names the fields of its geometry; the user knows them as options.
std::string in_option_names(std::string message) {
  constexpr std::string_view kField = "geometry.";
  for (std::size_t at = message.find(kField); at != std::string::npos; at = message.find(kField, at)) {
    message.replace(at, kField.size(), "--");
    for (; at < message.size() &&
           (std::isalpha(static_cast<unsigned char>(message[at])) != 0 || message[at] == '_' || message[at] == '-');
         ++at) {
      if (message[at] == '_') message[at] = '-';
    }
  }
  return message;
}

}  // namespace

void BackendOptions::add(CLI::App& app) {
  std::vector<std::string> words;
  words.reserve(kBackends.size());
  for (const auto& [word, backend_of_word] : kBackends) words.emplace_back(word);
  app.add_option(
         "--backend", backend,
         "Implementation that runs: auto (the fastest one that runs on the device), cpu, portable, hopper or blackwell")
      ->type_name("B")
      ->check(one_of(std::move(words)))
      ->capture_default_str()
      ->group("Backend");
  device_option_ =
      app.add_option("--device", device,
                     "Where it runs: cpu, cuda or cuda:N; auto is cuda where the backend runs there, else cpu")
          ->type_name("D")
          ->capture_default_str()
          ->group("Backend");
  app.add_option("--threads", threads, "Threads that may run on the CPU; 0 is all that the process may use")
      ->type_name("N")
      ->check(whole_number(0, kMaxThreads))
      ->capture_default_str()
      ->group("Backend");
  app.add_flag("--batch-invariant", batch_invariant, "A token's bits depend on no other token, and not on T")
      ->group("Backend");
  std::vector<std::string> intermediate_types;
  intermediate_types.reserve(kIntermediateTypes.size());
  for (const auto& [word, type_of_word] : kIntermediateTypes) intermediate_types.emplace_back(word);
  app.add_option(
         "--intermediate-type", intermediate_type,
         "What stands between the two products: e4m3, or e4m3x2, with a second code for what the first leaves over")
      ->type_name("I")
      ->check(one_of(std::move(intermediate_types)))
      ->capture_default_str()
      ->group("Backend");
  app.add_option("--max-local-picks", pruning.max_local_picks,
                 "Not exact: of a token's local picks only the N of largest weight; 0 is all of them")
      ->type_name("N")
      ->check(whole_number(0, contract::kMaxTopK))
      ->capture_default_str()
      ->group("Pruning");
  app.add_option("--min-weight-share", pruning.min_weight_share,
                 "Not exact: no local pick with less than this share of its token's weights; 0 is any share")
      ->type_name("X")
      ->check(validator("a number from 0 to below 1",
                        [](const std::string& text) {
                          const std::optional<float> number = parsed<float>(text);
                          return number && *number >= 0.0F && *number < 1.0F;
                        }))
      ->capture_default_str()
      ->group("Pruning");
  add_policy(app);
}

// What is not given is not quoted in reports: other backends know nothing of it.
void BackendOptions::add_policy(CLI::App& app) {
  std::vector<std::string> words;
  words.reserve(kPolicies.size());
  for (const auto& [word, policy_of_word] : kPolicies) words.emplace_back(word);
  app.add_option(
         "--policy", policy,
         "Which products blackwell runs: auto (ours, the default), reference_b200 (the branches of the benchmark's "
         "original), cutlass or trtllm; what is missing is replaced, and `plan` says so")
      ->type_name("P")
      ->check(one_of(std::move(words)))
      ->group("Blackwell");
  const auto number = [&app](const char* name, std::int32_t& field, std::int64_t least, std::int64_t most,
                             const char* meaning) {
    app.add_option(name, field, meaning)->type_name("N")->check(whole_number(least, most))->group("Blackwell");
  };
  constexpr std::int32_t kMost = std::numeric_limits<std::int32_t>::max();
  number("--trtllm-gemm1", trtllm_gemm1, 0, 1, "reference_b200: whether gemm1 may be TRTLLM's; 1 without it");
  number("--trtllm-gemm2", trtllm_gemm2, 0, 1, "reference_b200: whether gemm2 may be TRTLLM's; 1 without it");
  number("--mma-gemm2-m-threshold", mma_gemm2_m_threshold, 0, kMost,
         "reference_b200: gemm2 of more rows multiplies by mma.sync; 0, as without it, is never");
  number("--trtllm-gemm2-m-threshold", trtllm_gemm2_m_threshold, 1, kMost,
         "reference_b200: gemm2 of more rows is not TRTLLM's; 20000 without it");
}

Options BackendOptions::plan_options() const {
  Options options;
  for (const auto& [word, backend_of_word] : kBackends) {
    if (word == backend) options.backend = backend_of_word;
  }
  options.max_threads = threads;
  options.batch_invariant = batch_invariant;
  for (const auto& [word, type_of_word] : kIntermediateTypes) {
    if (word == intermediate_type) options.intermediate_type = type_of_word;
  }
  options.pruning = pruning;
  for (const auto& [word, policy_of_word] : kPolicies) {
    if (word == policy) options.policy = policy_of_word;
  }
  options.no_trtllm_gemm1 = 1 - trtllm_gemm1;
  options.no_trtllm_gemm2 = 1 - trtllm_gemm2;
  options.mma_gemm2_m_threshold = mma_gemm2_m_threshold;
  options.trtllm_gemm2_m_threshold = trtllm_gemm2_m_threshold;
  return options;
}

DeviceInfo BackendOptions::device_info() const {
  Options options = plan_options();
  options.pruning = {};  // has a say in no choice of a device, and the geometry is not known here
  const bool chosen_here = device == "auto";
  if (chosen_here && options.backend == Backend::automatic) {
    const Result<DeviceInfo> gpu = query_device({DeviceType::cuda, 0});
    const bool runs_there = gpu.ok() && Plan::create(blockmoe::Geometry(), 1, gpu.value(), options).ok();
    return runs_there ? gpu.value() : value_or_raise(query_device(Device{}));
  }
  const std::string word = !chosen_here ? device : options.backend == Backend::cpu ? "cpu" : "cuda";
  const std::optional<Device> wanted = parse_device(word);
  if (!wanted) refuse("--device", in_quotes(word), "auto, cpu, cuda or cuda:N");
  const Result<DeviceInfo> info = query_device(*wanted);
  if (info.ok()) return info.value();
  // Only what the user typed is named; the library's sentence begins with the device.
  if (chosen_here) refuse("--backend", backend, "one that runs on this machine", info.status().message());
  if (device_option_->count() > 0) refuse("--device", word, "a device of this machine", info.status().message());
  throw InputError(info.status().message());
}

void GeometryOptions::add(CLI::App& app) {
  const auto size = [&app](const char* name, auto& field, const char* meaning) {
    app.add_option(name, field, meaning)
        ->type_name("N")
        ->check(whole_number(std::numeric_limits<std::int32_t>::min(), std::numeric_limits<std::int32_t>::max()))
        ->capture_default_str()
        ->group("Geometry");
  };
  size("--hidden", geometry.hidden, "Width of a token, H; a multiple of 128");
  size("--intermediate", geometry.intermediate, "Width of an expert, I; a multiple of 128");
  size("--experts", geometry.experts, "Experts over all ranks, E");
  size("--local-experts", geometry.local_experts, "Experts on this rank, L");
  size("--top-k", geometry.top_k, "Experts that a token picks");
  size("--n-group", geometry.n_group, "Groups that the experts stand in; 1 is no grouping");
  size("--topk-group", geometry.topk_group, "Groups that a token keeps");
}

void GeometryOptions::require_valid() const {
  const Result<Plan> plan = Plan::create(as_public(), 0, value_or_raise(query_device(Device{})));
  if (!plan.ok()) throw InputError(in_option_names(plan.status().message()));
}

blockmoe::Geometry GeometryOptions::as_public() const {
  blockmoe::Geometry g;
  g.hidden = geometry.hidden;
  g.intermediate = geometry.intermediate;
  g.experts = geometry.experts;
  g.local_experts = geometry.local_experts;
  g.top_k = geometry.top_k;
  g.n_group = geometry.n_group;
  g.topk_group = geometry.topk_group;
  return g;
}

void DrawOptions::add(CLI::App& app) {
  app.add_option(
         "--profile", profile,
         "How tensors are drawn: official (the benchmark's: plain normal scales, half of them negative) or model "
         "(a model's: outlier channels, properly quantised)")
      ->type_name("P")
      ->check(one_of({"official", "model"}))
      ->capture_default_str()
      ->group("Inputs");
  app.add_option("--routing", routing,
                 "How logits are drawn: even, zipf, zipf:S (exponent S), all-on-one, one-row, none-local")
      ->type_name("R")
      ->check(validator("even, zipf, zipf:S with S from 0 to 16, all-on-one, one-row or none-local",
                        [](const std::string& word) { return workload::parse_skew(routing_word(word)).ok(); }))
      ->capture_default_str()
      ->group("Inputs");
  app.add_option("--seed", seed, "Seed of everything that is drawn; without it, the row's own")
      ->type_name("N")
      ->check(validator("a whole number from 0 to 2^64 - 1",  // the parser would let a negative number wrap
                        [](const std::string& text) { return parsed<std::uint64_t>(text).has_value(); }))
      ->group("Inputs");
}

workload::InputOptions DrawOptions::input_options(int threads) const {
  workload::InputOptions options;
  options.profile = value_or_raise(workload::parse_profile(profile));
  options.skew = value_or_raise(workload::parse_skew(routing_word(routing)));
  options.threads = threads;
  return options;
}

void DrawOptions::apply_seed(workload::Workload& workload) const {
  if (!seed) return;
  workload.seed = *seed;
  workload.weights_seed = *seed;
}

std::string to_string(Device device) {
  return device.type == DeviceType::cpu ? "cpu" : fmt::format("cuda:{}", device.index);
}

std::string to_string(Backend backend) {
  for (const auto& [word, backend_of_word] : kBackends) {
    if (backend_of_word == backend) return std::string(word);
  }
  return "unknown";
}

std::string command_line(const CLI::App& app) {
  std::string text = "blockmoe " + app.get_name();
  for (const CLI::Option* option : app.get_options()) {
    const std::string name = " --" + option->get_single_name();
    if (option->get_group() == "Reports") continue;
    if (option->count() == 0 && !option->get_needs().empty()) continue;  // it belongs to one that was not given
    if (option->get_items_expected_max() == 0) {
      if (option->count() > 0) text += name;
      continue;
    }
    std::vector<std::string> values = option->results();
    if (values.empty() && !option->get_default_str().empty()) values.push_back(option->get_default_str());
    for (const std::string& value : values) {
      const bool is_file = option->get_single_name() == "workloads";
      text += name + ' ' +
              shell_quote(is_file ? std::filesystem::path(value).filename().string() : value, QuoteContext::bare);
    }
  }
  return text;
}

CLI::Validator one_of(std::vector<std::string> words) {
  std::string expected = listed(words);
  return validator(std::move(expected), [words = std::move(words)](const std::string& text) {
    return std::find(words.begin(), words.end(), text) != words.end();
  });
}

CLI::Validator whole_number(std::int64_t least, std::int64_t most) {
  return validator(fmt::format("a whole number from {} to {}", least, most), [least, most](const std::string& text) {
    const std::optional<std::int64_t> number = parsed<std::int64_t>(text);
    return number && *number >= least && *number <= most;
  });
}

CLI::Validator finite_from(double least) {
  return validator(fmt::format("a finite number of at least {}", least), [least](const std::string& text) {
    const std::optional<double> number = parsed<double>(text);
    return number && std::isfinite(*number) && *number >= least;
  });
}

CLI::Validator finite_in(double least, double most) {
  return validator(fmt::format("a number from {} to {}", least, most), [least, most](const std::string& text) {
    const std::optional<double> number = parsed<double>(text);
    return number && *number >= least && *number <= most;
  });
}

CLI::Validator token_range() {
  return validator(fmt::format("A..B or A..B/N with 1 <= A <= B <= {}, 1 <= N <= B - A, at most {} sizes",
                               contract::kMaxTokens, workload::kMostSizes),
                   [](const std::string& text) { return workload::parse_token_range(text).ok(); });
}

}  // namespace blockmoe::cli
