// options.hpp: groups of options that subcommands share. Each `add` declares them; what they mean is read after parsing.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>

#include "blockmoe/moe.hpp"
#include "contract/geometry.h"
#include "workload/inputs.hpp"

namespace blockmoe::cli {

// --backend --device --threads: what runs, and where.
struct BackendOptions {
  std::string backend = "auto";
  std::string device = "auto";
  int threads = 0;

  void add(CLI::App& app);
  Options plan_options() const;
  // `auto` is the first CUDA device where the backend asked for runs there, else the CPU. Throws InputError.
  DeviceInfo device_info() const;
};

// --hidden --intermediate --experts --local-experts --top-k --n-group --topk-group
struct GeometryOptions {
  contract::Geometry geometry;

  void add(CLI::App& app);
  blockmoe::Geometry as_public() const;
};

// --profile --routing --seed: what is drawn where no file holds it.
struct DrawOptions {
  std::string profile = "official";
  std::string routing = "even";
  std::optional<std::uint64_t> seed;

  void add(CLI::App& app);
  workload::InputOptions input_options(int threads) const;
  // The seeds of a row are the user's where given.
  void apply_seed(workload::Workload& workload) const;
};

// "cpu" or "cuda:N".
std::string to_string(Device device);
std::string to_string(Backend backend);

// Finite and at least `smallest`; for CLI::Option::check.
CLI::Validator finite_from(double smallest);

}  // namespace blockmoe::cli
