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
  std::string device = "cpu";
  int threads = 0;

  void add(CLI::App& app);
  Options plan_options() const;
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

// "cpu", "cuda" (the first one) or "cuda:N", as a device that is here. Throws InputError.
DeviceInfo device_here(const std::string& word);

// The same, or the name of an architecture ("sm_90a") that need not be here.
DeviceInfo device_anywhere(const std::string& word);

// "cpu" or "cuda:N".
std::string to_string(Device device);
std::string to_string(Backend backend);

// Finite and at least `smallest`; for CLI::Option::check.
CLI::Validator finite_from(double smallest);

}  // namespace blockmoe::cli
