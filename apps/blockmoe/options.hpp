// options.hpp: groups of options that subcommands share. Each `add` declares them; what they mean is read after parsing.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "blockmoe/moe.hpp"
#include "contract/geometry.h"
#include "workload/inputs.hpp"

namespace blockmoe::cli {

// --backend --device --threads --batch-invariant --intermediate-type --max-local-picks --min-weight-share, and of the blackwell backend --policy with
// its switches: what runs, and where.
struct BackendOptions {
  std::string backend = "auto";
  std::string device = "auto";
  int threads = 0;
  bool batch_invariant = false;
  std::string intermediate_type = "e4m3";
  Pruning pruning;
  std::string policy = "auto";
  std::int32_t trtllm_gemm1 = 1;
  std::int32_t trtllm_gemm2 = 1;
  std::int32_t mma_gemm2_m_threshold = 0;
  std::int32_t trtllm_gemm2_m_threshold = 20'000;

  void add(CLI::App& app);
  Options plan_options() const;
  // `auto` is the first CUDA device where the backend asked for runs there, else the CPU. Throws InputError.
  DeviceInfo device_info() const;

 private:
  void add_policy(CLI::App& app);

  const CLI::Option* device_option_ = nullptr;
};

// --hidden --intermediate --experts --local-experts --top-k --n-group --topk-group
struct GeometryOptions {
  contract::Geometry geometry;

  void add(CLI::App& app);
  // Throws InputError where no backend takes it.
  void require_valid() const;
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

// The command as reports quote it: every option with its value, given or standard. Group Reports is left out, since it
// says nothing of what ran; of a workload file stands the name, not the folder.
std::string command_line(const CLI::App& app);

// For CLI::Option::check: one of some words, a whole number of a range, a finite number of at least `least`, of a range, a range of
// workload/token_range.hpp.
CLI::Validator one_of(std::vector<std::string> words);
CLI::Validator whole_number(std::int64_t least, std::int64_t most);
CLI::Validator finite_from(double least);
CLI::Validator finite_in(double least, double most);
CLI::Validator token_range();

}  // namespace blockmoe::cli
