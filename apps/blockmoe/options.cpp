#include "options.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <string_view>
#include <utility>

#include "error.hpp"

namespace blockmoe::cli {
namespace {

constexpr std::array<std::pair<std::string_view, Backend>, 4> kBackends{{
    {"auto", Backend::automatic},
    {"cpu", Backend::cpu},
    {"portable", Backend::portable},
    {"hopper", Backend::hopper},
}};

constexpr int kMaxThreads = 4096;

// The command line's words have hyphens where the workload library's have underscores.
std::string routing_word(std::string word) {
  std::replace(word.begin(), word.end(), '-', '_');
  return word;
}

template <typename T>
std::string message_of(const Result<T>& result) {
  return result.ok() ? std::string() : result.status().message();
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

DeviceInfo device_here(const std::string& word) {
  const std::optional<Device> device = parse_device(word);
  if (!device) throw InputError(fmt::format("--device: '{}', expected auto, cpu, cuda or cuda:N", word));
  const Result<DeviceInfo> info = query_device(*device);
  if (!info.ok()) throw InputError(fmt::format("--device {}: {}", word, info.status().message()));
  return info.value();
}

}  // namespace

void BackendOptions::add(CLI::App& app) {
  std::vector<std::string> words;
  words.reserve(kBackends.size());
  for (const auto& [word, backend_of_word] : kBackends) words.emplace_back(word);
  app.add_option("--backend", backend,
                 "Implementation that runs: auto (the fastest one that runs on the device), cpu, portable or hopper")
      ->type_name("B")
      ->check(CLI::IsMember(words))
      ->capture_default_str()
      ->group("Backend");
  app.add_option("--device", device,
                 "Where it runs: cpu, cuda or cuda:N; auto is cuda where the backend runs there, else cpu")
      ->type_name("D")
      ->capture_default_str()
      ->group("Backend");
  app.add_option("--threads", threads, "Threads that may run on the CPU; 0 is all that the process may use")
      ->type_name("N")
      ->check(CLI::Range(0, kMaxThreads))
      ->capture_default_str()
      ->group("Backend");
}

Options BackendOptions::plan_options() const {
  Options options;
  for (const auto& [word, backend_of_word] : kBackends) {
    if (word == backend) options.backend = backend_of_word;
  }
  options.max_threads = threads;
  return options;
}

DeviceInfo BackendOptions::device_info() const {
  if (device != "auto") return device_here(device);
  const Options options = plan_options();
  if (options.backend == Backend::cpu) return device_here("cpu");
  if (options.backend != Backend::automatic) return device_here("cuda");
  const Result<DeviceInfo> gpu = query_device({DeviceType::cuda, 0});
  const bool runs_there = gpu.ok() && Plan::create(blockmoe::Geometry(), 1, gpu.value(), options).ok();
  return runs_there ? gpu.value() : device_here("cpu");
}

void GeometryOptions::add(CLI::App& app) {
  const auto size = [&app](const char* name, auto& field, const char* meaning) {
    app.add_option(name, field, meaning)->type_name("N")->capture_default_str()->group("Geometry");
  };
  size("--hidden", geometry.hidden, "Width of a token, H; a multiple of 128");
  size("--intermediate", geometry.intermediate, "Width of an expert, I; a multiple of 128");
  size("--experts", geometry.experts, "Experts over all ranks, E");
  size("--local-experts", geometry.local_experts, "Experts on this rank, L");
  size("--top-k", geometry.top_k, "Experts that a token picks");
  size("--n-group", geometry.n_group, "Groups that the experts stand in; 1 is no grouping");
  size("--topk-group", geometry.topk_group, "Groups that a token keeps");
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
      ->check([](const std::string& word) { return message_of(workload::parse_profile(word)); })
      ->capture_default_str()
      ->group("Inputs");
  app.add_option("--routing", routing, "How logits are drawn: even, zipf, zipf:S (exponent S), all-on-one, none-local")
      ->type_name("R")
      ->check([](const std::string& word) { return message_of(workload::parse_skew(routing_word(word))); })
      ->capture_default_str()
      ->group("Inputs");
  app.add_option("--seed", seed, "Seed of everything that is drawn; without it, the row's own")
      ->type_name("N")
      ->check([](const std::string& text) {  // the parser would let a negative number wrap
        std::uint64_t value = 0;
        const char* const end = text.data() + text.size();
        const auto [parsed_to, error] = std::from_chars(text.data(), end, value);
        const bool whole = error == std::errc() && parsed_to == end;
        return whole ? std::string() : fmt::format("--seed: '{}', expected a number from 0 to 2^64 - 1", text);
      })
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

CLI::Validator finite_from(double smallest) {
  return {[smallest](const std::string& text) {
            double value = std::numeric_limits<double>::quiet_NaN();
            if (CLI::detail::lexical_cast(text, value) && std::isfinite(value) && value >= smallest)
              return std::string();
            return fmt::format("{} is not a finite number of at least {}", text, smallest);
          },
          "NUMBER"};
}

}  // namespace blockmoe::cli
