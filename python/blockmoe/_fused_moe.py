"""The operator in one call."""

from typing import Any, overload

from . import _core
from ._plan import Plan
from ._tensors import DLPackTensor, Output, lend, lend_optional, new_numpy_output, raise_by_name

_OPTIONS = (8, 8, 4, False, "auto", 0, 0.0, "e4m3")


@overload
def fused_moe(
    routing_logits: DLPackTensor,
    routing_bias: DLPackTensor | None,
    hidden_states: DLPackTensor,
    hidden_states_scale: DLPackTensor,
    gemm1_weights: DLPackTensor,
    gemm1_weights_scale: DLPackTensor,
    gemm2_weights: DLPackTensor,
    gemm2_weights_scale: DLPackTensor,
    local_expert_offset: int,
    routed_scaling_factor: float,
    output: Output,
    *,
    top_k: int = 8,
    n_group: int = 8,
    topk_group: int = 4,
    gate_first: bool = False,
    backend: str = "auto",
    max_local_picks: int = 0,
    min_weight_share: float = 0.0,
    intermediate_type: str = "e4m3",
    plan: Plan | None = None,
    workspace: DLPackTensor | None = None,
) -> Output: ...


@overload
def fused_moe(
    routing_logits: DLPackTensor,
    routing_bias: DLPackTensor | None,
    hidden_states: DLPackTensor,
    hidden_states_scale: DLPackTensor,
    gemm1_weights: DLPackTensor,
    gemm1_weights_scale: DLPackTensor,
    gemm2_weights: DLPackTensor,
    gemm2_weights_scale: DLPackTensor,
    local_expert_offset: int,
    routed_scaling_factor: float,
    output: None = None,
    *,
    top_k: int = 8,
    n_group: int = 8,
    topk_group: int = 4,
    gate_first: bool = False,
    backend: str = "auto",
    max_local_picks: int = 0,
    min_weight_share: float = 0.0,
    intermediate_type: str = "e4m3",
    plan: Plan | None = None,
    workspace: DLPackTensor | None = None,
) -> Any: ...


def fused_moe(
    routing_logits: DLPackTensor,
    routing_bias: DLPackTensor | None,
    hidden_states: DLPackTensor,
    hidden_states_scale: DLPackTensor,
    gemm1_weights: DLPackTensor,
    gemm1_weights_scale: DLPackTensor,
    gemm2_weights: DLPackTensor,
    gemm2_weights_scale: DLPackTensor,
    local_expert_offset: int,
    routed_scaling_factor: float,
    output: DLPackTensor | None = None,
    *,
    top_k: int = 8,
    n_group: int = 8,
    topk_group: int = 4,
    gate_first: bool = False,
    backend: str = "auto",
    max_local_picks: int = 0,
    min_weight_share: float = 0.0,
    intermediate_type: str = "e4m3",
    plan: Plan | None = None,
    workspace: DLPackTensor | None = None,
) -> Any:
    """The whole layer: routing, two grouped products with SwiGLU between them, and the combine, on the caller's current stream.

    For each token: s = sigmoid(logit) and b = s + bias; of n_group groups of experts the topk_group with the largest sum of
    two b are kept, and of their experts the top_k with the largest b are picked, ties to the lower number. A pick's weight is
    s / (sum of s over all picks + 1e-20) * routed_scaling_factor. The output row is the weighted sum, over the picks on this
    rank, of W2 (silu(gate) * up), where up and gate are the halves of W13 times the token. Same inputs, same bits.

    Names: T tokens, E experts over all ranks, L of them on this rank, H hidden, I intermediate; H and I are multiples of 128.
    All tensors are on one device, the CPU or CUDA. uint8 is taken for e4m3 and uint16 for bf16, and NumPy arrays of ml_dtypes
    for what they are.

    Args:
        routing_logits: [T, E] f32 or bf16; a row pitch is accepted.
        routing_bias: [E] bf16 or f32, added for the choice only; None is zeros.
        hidden_states: [T, H] e4m3, 16-byte aligned; a row pitch that is a multiple of 16, at most 262144, is accepted.
        hidden_states_scale: [H/128, T] f32, one factor for 128 values of a token, T the fast axis; a pitch is accepted.
        gemm1_weights: [L, 2I, H] e4m3, contiguous, 16-byte aligned; up rows, then gate rows.
        gemm1_weights_scale: [L, 2I/128, H/128] f32, contiguous: one factor a block of 128 x 128.
        gemm2_weights: [L, H, I] e4m3, contiguous, 16-byte aligned.
        gemm2_weights_scale: [L, H/128, I/128] f32, contiguous.
        local_expert_offset: global number of local expert 0; experts outside [0, E) get no rows.
        routed_scaling_factor: finite; 2.5 for DeepSeek-V3.
        output: [T, H] bf16, 16-byte aligned; a row pitch that is a multiple of 8 is accepted; overlaps no other argument. Or f32
            with a pitch that is a multiple of 4: the rows before their rounding, which is what a sum over ranks wants. None: a
            new bf16 one from the framework of hidden_states (NumPy: uint16; one that lends no allocator: a tvm_ffi.Tensor, on
            the CPU alone).
        top_k, n_group, topk_group: see above. A plan has its own.
        gate_first: gemm1_weights holds gate rows first, then up rows. A plan has its own.
        backend: "auto", "cpu", "portable", "hopper" or "blackwell". A plan has its own.
        max_local_picks, min_weight_share: pruning, off by default; as of Plan, which has its own.
        intermediate_type: "e4m3" or "e4m3x2", for less error between the two products; as of Plan, which has its own.
        plan: what to run. None: one for these sizes, kept for later calls of the same sizes.
        workspace: [plan.workspace_bytes or more] uint8, contiguous, of calls that never run at the same time. None: one from
            the framework's allocator (for the CPU without one, the heap).

    Returns:
        output. A token with no pick on this rank gets zeros. On a CUDA device the work has only been launched.

    Raises:
        ValueError: an argument is not as above, or nothing in this build runs it on this device; the message names the
            argument, what it is and what it must be. Nothing was launched and nothing is written.
        TypeError: an argument is no tensor.
        RuntimeError: the device refused work; the output's contents are unspecified.

    Safe under CUDA graph capture. With output and workspace given, nothing is allocated on the device.
    """
    options = (top_k, n_group, topk_group, gate_first, backend, max_local_picks, min_weight_share, intermediate_type)
    if plan is not None and options != _OPTIONS:
        raise ValueError(
            "plan: given beside top_k, n_group, topk_group, gate_first, backend, pruning or intermediate_type, expected one of the two"
        )
    given = output if output is not None else new_numpy_output(hidden_states)
    try:
        made = _core.fused_moe(
            lend("routing_logits", routing_logits),
            lend_optional("routing_bias", routing_bias),
            lend("hidden_states", hidden_states),
            lend("hidden_states_scale", hidden_states_scale),
            lend("gemm1_weights", gemm1_weights),
            lend("gemm1_weights_scale", gemm1_weights_scale),
            lend("gemm2_weights", gemm2_weights),
            lend("gemm2_weights_scale", gemm2_weights_scale),
            local_expert_offset,
            routed_scaling_factor,
            lend_optional("output", given, written=True),
            top_k,
            n_group,
            topk_group,
            gate_first,
            _core.backend_number(backend),
            max_local_picks,
            min_weight_share,
            _core.intermediate_type_number(intermediate_type),
            None if plan is None else plan._handle,
            lend_optional("workspace", workspace, written=True),
        )
    except RuntimeError as error:
        raise_by_name(
            error,
            routing_logits=routing_logits,
            routing_bias=routing_bias,
            hidden_states=hidden_states,
            hidden_states_scale=hidden_states_scale,
            gemm1_weights=gemm1_weights,
            gemm1_weights_scale=gemm1_weights_scale,
            gemm2_weights=gemm2_weights,
            gemm2_weights_scale=gemm2_weights_scale,
            output=given,
            workspace=workspace,
        )
    return made if given is None else given
