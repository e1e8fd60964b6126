"""The operator in one call, for engines that route themselves."""

from typing import Any, overload

from . import _core
from ._plan import Plan
from ._tensors import DLPackTensor, Output, lend, lend_optional, new_numpy_output, raise_by_name

_OPTIONS = (256, False, "auto", 0, 0.0, "e4m3")


@overload
def fused_moe_prerouted(
    topk_ids: DLPackTensor,
    topk_weights: DLPackTensor,
    hidden_states: DLPackTensor,
    hidden_states_scale: DLPackTensor,
    gemm1_weights: DLPackTensor,
    gemm1_weights_scale: DLPackTensor,
    gemm2_weights: DLPackTensor,
    gemm2_weights_scale: DLPackTensor,
    local_expert_offset: int,
    output: Output,
    *,
    experts: int = 256,
    gate_first: bool = False,
    backend: str = "auto",
    max_local_picks: int = 0,
    min_weight_share: float = 0.0,
    intermediate_type: str = "e4m3",
    plan: Plan | None = None,
    workspace: DLPackTensor | None = None,
) -> Output: ...


@overload
def fused_moe_prerouted(
    topk_ids: DLPackTensor,
    topk_weights: DLPackTensor,
    hidden_states: DLPackTensor,
    hidden_states_scale: DLPackTensor,
    gemm1_weights: DLPackTensor,
    gemm1_weights_scale: DLPackTensor,
    gemm2_weights: DLPackTensor,
    gemm2_weights_scale: DLPackTensor,
    local_expert_offset: int,
    output: None = None,
    *,
    experts: int = 256,
    gate_first: bool = False,
    backend: str = "auto",
    max_local_picks: int = 0,
    min_weight_share: float = 0.0,
    intermediate_type: str = "e4m3",
    plan: Plan | None = None,
    workspace: DLPackTensor | None = None,
) -> Any: ...


def fused_moe_prerouted(
    topk_ids: DLPackTensor,
    topk_weights: DLPackTensor,
    hidden_states: DLPackTensor,
    hidden_states_scale: DLPackTensor,
    gemm1_weights: DLPackTensor,
    gemm1_weights_scale: DLPackTensor,
    gemm2_weights: DLPackTensor,
    gemm2_weights_scale: DLPackTensor,
    local_expert_offset: int,
    output: DLPackTensor | None = None,
    *,
    experts: int = 256,
    gate_first: bool = False,
    backend: str = "auto",
    max_local_picks: int = 0,
    min_weight_share: float = 0.0,
    intermediate_type: str = "e4m3",
    plan: Plan | None = None,
    workspace: DLPackTensor | None = None,
) -> Any:
    """fused_moe without its routing.

    A token's row is the sum, over its picks on this rank in the order in which they stand, of weight times W2 (silu(gate) * up).
    Fed the picks and weights that fused_moe makes, it gives the same bits.

    Args:
        topk_ids: [T, K] int32, global numbers of experts, K at most 32; a row pitch is accepted. One that is negative, `experts`
            or more, not on this rank, or earlier in the row, is skipped.
        topk_weights: [T, K] f32, used as they are: a scaling factor is the caller's to apply; a row pitch is accepted.
        hidden_states, hidden_states_scale, gemm1_weights, gemm1_weights_scale, gemm2_weights, gemm2_weights_scale,
            local_expert_offset, output, gate_first, backend, max_local_picks, min_weight_share, intermediate_type, plan,
            workspace: as of fused_moe.
        experts: E, over all ranks, K to 1024. A plan has its own.

    Returns:
        output. A token with no pick on this rank gets zeros.

    Raises:
        ValueError, TypeError, RuntimeError: as of fused_moe.
    """
    options = (experts, gate_first, backend, max_local_picks, min_weight_share, intermediate_type)
    if plan is not None and options != _OPTIONS:
        raise ValueError("plan: given beside experts, gate_first, backend, pruning or intermediate_type, expected one of the two")
    given = output if output is not None else new_numpy_output(hidden_states)
    try:
        made = _core.fused_moe_prerouted(
            lend("topk_ids", topk_ids),
            lend("topk_weights", topk_weights),
            lend("hidden_states", hidden_states),
            lend("hidden_states_scale", hidden_states_scale),
            lend("gemm1_weights", gemm1_weights),
            lend("gemm1_weights_scale", gemm1_weights_scale),
            lend("gemm2_weights", gemm2_weights),
            lend("gemm2_weights_scale", gemm2_weights_scale),
            local_expert_offset,
            lend_optional("output", given, written=True),
            experts,
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
            topk_ids=topk_ids,
            topk_weights=topk_weights,
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
