// definition.hpp: the definition JSON of flashinfer-bench, read for its geometry.
//
//   {"name": "moe_fp8_block_scale_ds_routing_topk8_ng8_kg4_e32_h7168_i2048", "op_type": "moe",
//    "axes": {"seq_len": {"type": "var"}, "num_experts": {"type": "const", "value": 256}, ...},
//    "inputs": {"routing_logits": {"shape": ["seq_len", "num_experts"], "dtype": "float32"}, ...},
//    "outputs": {"output": {"shape": ["seq_len", "hidden_size"], "dtype": "bfloat16"}}, "reference": "..."}
//
// E, L, H and I come from the axes; top_k, n_group and topk_group stand only in the name (topk8_ng8_kg4).
#pragma once

#include <string>
#include <string_view>

#include "blockmoe/status.hpp"
#include "contract/geometry.h"

namespace blockmoe::workload {

/// The definition that the 19 shapes of the benchmark belong to; its geometry is contract::Geometry's default.
inline constexpr std::string_view kOfficialDefinition = "moe_fp8_block_scale_ds_routing_topk8_ng8_kg4_e32_h7168_i2048";

struct Definition {
  std::string name;
  std::string tokens_axis;  ///< the variable axis: "seq_len"
  contract::Geometry geometry;
};

/// Errors name the file and the axis or tensor. The inputs' and output's names, ranks, axes and types must be those of
/// the operator, in the operator's order of arguments.
Result<Definition> read_definition(const std::string& path);
Result<Definition> parse_definition(std::string_view text, const std::string& name);

/// Is `geometry` one that every backend takes (contract/geometry.h)? The message names the field.
Status check_geometry(const contract::Geometry& geometry);

}  // namespace blockmoe::workload
