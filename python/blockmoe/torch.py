"""The operator registered with PyTorch, for torch.compile, torch.export and everything else that traces.

    import blockmoe.torch
    output = torch.ops.blockmoe.fused_moe(routing_logits, routing_bias, ..., top_k=8)
    torch.ops.blockmoe.fused_moe_out(routing_logits, routing_bias, ..., output, top_k=8)

Arguments are those of blockmoe.fused_moe in their order. fused_moe returns a new [T, H] bfloat16; fused_moe_out writes `output`
and returns nothing. Traced calls have no plan and no workspace of their own: a plan is kept for their sizes, and the workspace
comes from PyTorch's allocator. The operator has no derivative: going back through fused_moe raises NotImplementedError.
"""

from typing import Any

import torch

from ._fused_moe import fused_moe as _fused_moe

_INPUTS = (
    "Tensor routing_logits, Tensor? routing_bias, Tensor hidden_states, Tensor hidden_states_scale, "
    "Tensor gemm1_weights, Tensor gemm1_weights_scale, Tensor gemm2_weights, Tensor gemm2_weights_scale, "
    "int local_expert_offset, float routed_scaling_factor"
)
_OPTIONS = (
    "*, int top_k=8, int n_group=8, int topk_group=4, bool gate_first=False, str backend='auto', int max_local_picks=0, "
    "float min_weight_share=0.0, str intermediate_type='e4m3'"
)

_library = torch.library.Library("blockmoe", "DEF")
# Layouts are part of what the operator accepts: a compiler may not choose others for its arguments.
_tags = (torch.Tag.needs_exact_strides,)
_library.define(f"fused_moe({_INPUTS}, {_OPTIONS}) -> Tensor", tags=_tags)
_library.define(f"fused_moe_out({_INPUTS}, Tensor(a!) output, {_OPTIONS}) -> ()", tags=_tags)


def _new_output(*arguments: Any, **options: Any) -> Any:
    return _fused_moe(*arguments, **options)


def _given_output(*arguments: Any, **options: Any) -> None:
    _fused_moe(*arguments, **options)


def _fake(*arguments: Any, **_options: Any) -> Any:
    hidden_states = arguments[2]
    return hidden_states.new_empty(hidden_states.shape, dtype=torch.bfloat16)


def _fake_out(*_arguments: Any, **_options: Any) -> None:
    """Writes its output and tells nothing of it."""


def _no_derivative(_context: Any, _gradient: Any) -> None:
    raise NotImplementedError("blockmoe::fused_moe: no gradient flows through the operator; call it on detached tensors")


for _device in ("CPU", "CUDA"):
    _library.impl("fused_moe", _new_output, _device)
    _library.impl("fused_moe_out", _given_output, _device)
torch.library.register_fake("blockmoe::fused_moe", _fake, lib=_library)
torch.library.register_fake("blockmoe::fused_moe_out", _fake_out, lib=_library)
torch.library.register_autograd("blockmoe::fused_moe", _no_derivative, lib=_library)
