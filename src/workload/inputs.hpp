// inputs.hpp: all tensors of one call in host memory, drawn or read from files.
//
// Profiles (generator.hpp has the formulas):
//   official   as the benchmark draws them: e4m3 from normal numbers clamped to [-2, 2], f32 scales plain normal numbers (so half are
//              negative), normal logits
//   model      as a model has them: activations with outlier channels and weights N(0, 0.02), both quantised with
//              scale = amax/448 per 1x128 and per 128x128; normal logits
//
// Skew changes the logits only:
//   even        normal numbers
//   zipf:S      experts in a drawn order of popularity: the logit of rank r is lowered by S * ln(r), r = 1..E
//   all_on_one  one local expert gets every token, the other local ones none (where others are left to pick)
//   one_row     one local expert gets the first token alone (where others are left to pick); the other tokens' logits are those of
//               even
//   none_local  no local expert gets a token (where others are left to pick)
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "blockmoe/moe.hpp"
#include "blockmoe/status.hpp"
#include "contract/call.h"
#include "contract/geometry.h"
#include "workload/workload.hpp"

namespace blockmoe::workload {

enum class Profile { official, model };

struct Skew {
  enum class Kind { even, zipf, all_on_one, one_row, none_local };
  Kind kind = Kind::even;
  double exponent = 1.0;  ///< of zipf
};

/// From the words above: "official", "model"; "even", "zipf", "zipf:1.2", "all_on_one", "one_row", "none_local".
Result<Profile> parse_profile(std::string_view word);
Result<Skew> parse_skew(std::string_view word);
std::string to_string(Profile profile);
std::string to_string(const Skew& skew);

struct InputOptions {
  Profile profile = Profile::official;
  Skew skew;
  int threads = 0;  ///< that draw; 0 = all that the process may run on. The bytes don't depend on it
  std::string dataset_root =
      workload::dataset_root();  ///< where a row's files are looked for; empty = nowhere, all is drawn
};

/// The tensors of one call. Owns the memory (or keeps the files mapped) that the pointers lead to; copies share it.
struct Inputs {
  contract::Geometry geometry;
  contract::Weights weights;          ///< up rows first; routing_bias is bf16 or f32
  contract::Activations activations;  ///< without an output; contiguous
  std::vector<std::string>
      notes;  ///< what a reader of the report must know, a sentence each: drawn instead of read, ...
  std::vector<std::shared_ptr<const void>> memory;  ///< what keeps the pointers valid

  std::int64_t tokens() const { return activations.tokens; }
  /// The same as arguments of the public API, on the CPU.
  blockmoe::Geometry public_geometry() const;
  blockmoe::Weights public_weights() const;
  blockmoe::Activations public_activations() const;
};

/// Makes the inputs of one row after another. Weights are drawn once for rows that agree in geometry, profile and
/// weights_seed; memory that no Inputs holds any more is used again. Not for use by two threads at a time.
class InputMaker {
 public:
  explicit InputMaker(InputOptions options);
  ~InputMaker();
  InputMaker(InputMaker&&) noexcept;
  InputMaker& operator=(InputMaker&&) noexcept;

  /// A tensor for which the row names a file is read from it where `dataset_root` is set and the file is there; where not, it is
  /// drawn, with a note. A file that is there but wrong is an error. Tensors in files are used in place where their
  /// alignment allows it.
  Result<Inputs> make(const Workload& row);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// The call of the first `tokens` (0 to inputs.tokens()) of a call's tokens, contiguous as that one is: shares its memory, but for the
/// scales of hidden_states, which lie token by token and are copied.
Result<Inputs> first_tokens(const Inputs& inputs, std::int64_t tokens);

/// What a file of inputs leaves open: its own are used where it has the tensors `local_expert_offset` (I32 or I64, one
/// element) and `routed_scaling_factor` (F32 or F64, one element), and in its metadata `top_k`, `n_group` and
/// `topk_group` as decimal numbers.
struct LoadOptions {
  std::int32_t top_k = 8;
  std::int32_t n_group = 8;
  std::int32_t topk_group = 4;
  std::int32_t local_expert_offset = 0;
  float routed_scaling_factor = 2.5F;
};

/// Inputs from one safetensors file that has the tensors of the operator under their names (routing_bias may be absent;
/// U8 stands for F8_E4M3). The geometry is that of the shapes. Errors name the file and the tensor.
Result<Inputs> load_inputs(const std::string& path, const LoadOptions& options = {});

/// Writes tensors and metadata as load_inputs() reads them.
Status save_inputs(const std::string& path, const Inputs& inputs);

}  // namespace blockmoe::workload
