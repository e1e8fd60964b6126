"""Plan once, bind weights once, run many times: blockmoe::Plan and blockmoe::BoundPlan."""

import dataclasses
from collections.abc import Callable
from typing import Any, overload

from . import _core
from ._tensors import (
    DLPackTensor,
    Output,
    lend,
    lend_optional,
    new_numpy_output,
    new_numpy_picks,
    raise_by_name,
)


@dataclasses.dataclass(frozen=True)
class Weights:
    """What a layer brings, constant from call to call. All on the plan's device.

    Names: E experts over all ranks, L of them on this rank, H hidden, I intermediate. uint8 is taken for e4m3 and uint16
    for bf16.
    """

    gemm1_weights: DLPackTensor
    """[L, 2I, H] e4m3, contiguous, 16-byte aligned; up rows, then gate rows (gate_first: the other way round)."""
    gemm1_weights_scale: DLPackTensor
    """[L, 2I/128, H/128] f32, contiguous: one factor a block of 128 x 128."""
    gemm2_weights: DLPackTensor
    """[L, H, I] e4m3, contiguous, 16-byte aligned."""
    gemm2_weights_scale: DLPackTensor
    """[L, H/128, I/128] f32, contiguous."""
    routing_bias: DLPackTensor | None = None
    """[E] bf16 or f32, added for the choice of experts only; None is zeros."""
    local_expert_offset: int = 0
    """Global number of local expert 0. Experts outside [0, E) get no rows."""
    routed_scaling_factor: float = 1.0
    """Factor of every routing weight, finite; 2.5 for DeepSeek-V3."""


def bind_weights(bind: Callable[..., Any], handle: Any, weights: Weights) -> Any:
    """bind(handle, ...) on the weights' tensors, of a plan or of a group.

    Raises:
        ValueError: a tensor is not as Weights says; the message names it.
    """
    w = weights
    try:
        return bind(
            handle,
            lend_optional("routing_bias", w.routing_bias),
            lend("gemm1_weights", w.gemm1_weights),
            lend("gemm1_weights_scale", w.gemm1_weights_scale),
            lend("gemm2_weights", w.gemm2_weights),
            lend("gemm2_weights_scale", w.gemm2_weights_scale),
            w.local_expert_offset,
            w.routed_scaling_factor,
        )
    except RuntimeError as error:
        raise_by_name(
            error,
            routing_bias=w.routing_bias,
            gemm1_weights=w.gemm1_weights,
            gemm1_weights_scale=w.gemm1_weights_scale,
            gemm2_weights=w.gemm2_weights,
            gemm2_weights_scale=w.gemm2_weights_scale,
        )


class BoundPlan:
    """A plan with the weights of one layer. Made by Plan.bind(); free to be used from several threads.

    It keeps the weights' tensors alive. Their contents may change between calls.
    """

    __slots__ = ("_handle", "_top_k", "_weights")

    def __init__(self, handle: Any, weights: Weights, top_k: int) -> None:
        self._handle = handle
        self._weights = weights
        self._top_k = top_k

    @overload
    def run(
        self,
        routing_logits: DLPackTensor,
        hidden_states: DLPackTensor,
        hidden_states_scale: DLPackTensor,
        output: Output,
        *,
        workspace: DLPackTensor | None = None,
    ) -> Output: ...

    @overload
    def run(
        self,
        routing_logits: DLPackTensor,
        hidden_states: DLPackTensor,
        hidden_states_scale: DLPackTensor,
        output: None = None,
        *,
        workspace: DLPackTensor | None = None,
    ) -> Any: ...

    def run(
        self,
        routing_logits: DLPackTensor,
        hidden_states: DLPackTensor,
        hidden_states_scale: DLPackTensor,
        output: DLPackTensor | None = None,
        *,
        workspace: DLPackTensor | None = None,
    ) -> Any:
        """One call on the caller's current stream; T may be anything from 0 to the plan's max_tokens.

        Args:
            routing_logits: [T, E] f32 or bf16; a row pitch is accepted.
            hidden_states: [T, H] e4m3 or uint8, 16-byte aligned; a row pitch that is a multiple of 16, at most 262144, is accepted.
            hidden_states_scale: [H/128, T] f32, one factor for 128 values of a token, T the fast axis; a pitch is accepted.
            output: [T, H] bf16 or uint16, 16-byte aligned; a row pitch that is a multiple of 8 is accepted. Or f32 with a pitch
                that is a multiple of 4: the rows before their rounding, which is what a sum over ranks wants. None: a new bf16
                one from the framework of hidden_states (NumPy: uint16; one that lends no allocator: a tvm_ffi.Tensor, on the
                CPU alone).
            workspace: [plan.workspace_bytes or more] uint8, contiguous, on the plan's device, of calls that never run at the
                same time. None: one from the framework's allocator (for the CPU without one, the heap).

        Returns:
            output. On a CUDA device the work has only been launched.

        Raises:
            ValueError: an argument is not as above; the message names it. Nothing was launched and nothing is written.
            RuntimeError: the device refused work; the output's contents are unspecified.
        """
        given = output if output is not None else new_numpy_output(hidden_states)
        try:
            made = _core.bound_run(
                self._handle,
                lend("routing_logits", routing_logits),
                lend("hidden_states", hidden_states),
                lend("hidden_states_scale", hidden_states_scale),
                lend_optional("output", given, written=True),
                lend_optional("workspace", workspace, written=True),
            )
        except RuntimeError as error:
            raise_by_name(
                error,
                routing_logits=routing_logits,
                hidden_states=hidden_states,
                hidden_states_scale=hidden_states_scale,
                output=given,
                workspace=workspace,
            )
        return made if given is None else given

    @overload
    def run_prerouted(
        self,
        topk_ids: DLPackTensor,
        topk_weights: DLPackTensor,
        hidden_states: DLPackTensor,
        hidden_states_scale: DLPackTensor,
        output: Output,
        *,
        workspace: DLPackTensor | None = None,
    ) -> Output: ...

    @overload
    def run_prerouted(
        self,
        topk_ids: DLPackTensor,
        topk_weights: DLPackTensor,
        hidden_states: DLPackTensor,
        hidden_states_scale: DLPackTensor,
        output: None = None,
        *,
        workspace: DLPackTensor | None = None,
    ) -> Any: ...

    def run_prerouted(
        self,
        topk_ids: DLPackTensor,
        topk_weights: DLPackTensor,
        hidden_states: DLPackTensor,
        hidden_states_scale: DLPackTensor,
        output: DLPackTensor | None = None,
        *,
        workspace: DLPackTensor | None = None,
    ) -> Any:
        """run() of a step that the caller has routed.

        Args:
            topk_ids: [T, top_k] int32, global numbers of experts. One that is negative, E or more, not on this rank, or
                earlier in the row, is skipped.
            topk_weights: [T, top_k] f32, used as they are.
            hidden_states, hidden_states_scale, output, workspace: as of run().

        Raises:
            ValueError, RuntimeError: as of run().
        """
        given = output if output is not None else new_numpy_output(hidden_states)
        try:
            made = _core.bound_run_prerouted(
                self._handle,
                lend("topk_ids", topk_ids),
                lend("topk_weights", topk_weights),
                lend("hidden_states", hidden_states),
                lend("hidden_states_scale", hidden_states_scale),
                lend_optional("output", given, written=True),
                lend_optional("workspace", workspace, written=True),
            )
        except RuntimeError as error:
            raise_by_name(
                error,
                topk_ids=topk_ids,
                topk_weights=topk_weights,
                hidden_states=hidden_states,
                hidden_states_scale=hidden_states_scale,
                output=given,
                workspace=workspace,
            )
        return made if given is None else given

    def route(
        self,
        routing_logits: DLPackTensor,
        topk_ids: DLPackTensor | None = None,
        topk_weights: DLPackTensor | None = None,
    ) -> tuple[Any, Any]:
        """Routing alone, on the caller's current stream: the picks that run() makes, those of experts on other ranks too.

        Args:
            routing_logits: [T, E] f32 or bf16; a row pitch is accepted.
            topk_ids: [T, top_k] int32, contiguous: global numbers in pick order. None: a new one from the framework of
                routing_logits.
            topk_weights: [T, top_k] f32, contiguous: their weights, routed_scaling_factor applied. None: likewise.

        Returns:
            topk_ids and topk_weights. run_prerouted() on them gives run()'s bits, on every rank.

        Raises:
            ValueError, RuntimeError: as of run().
        """
        new_ids, new_weights = new_numpy_picks(routing_logits, self._top_k)
        ids = topk_ids if topk_ids is not None else new_ids
        weights = topk_weights if topk_weights is not None else new_weights
        try:
            made_ids, made_weights = _core.bound_route(
                self._handle,
                lend("routing_logits", routing_logits),
                lend_optional("topk_ids", ids, written=True),
                lend_optional("topk_weights", weights, written=True),
                self._top_k,
            )
        except RuntimeError as error:
            raise_by_name(error, routing_logits=routing_logits, topk_ids=ids, topk_weights=weights)
        return made_ids if ids is None else ids, made_weights if weights is None else weights


class Plan:
    """The choice of kernels and sizes for one geometry, device and largest T. Immutable; free to be used from several threads.

    Args:
        max_tokens: largest T of any call, 0 to 2**30.
        device: "cpu", "cuda", "cuda:1"; or an architecture that need not be here ("sm_90a"), for planning alone.
        experts: E, over all ranks, 1 to 1024.
        hidden: H, a multiple of 128.
        intermediate: I, a multiple of 128.
        local_experts: L, on this rank, 1 to E.
        top_k: experts picked a token, 1 to 32.
        n_group: groups that the experts stand in; divides E; 1 is no grouping.
        topk_group: groups kept a token.
        backend: "auto" (the fastest that runs on the device and holds the error gates), "cpu", "portable",
            "hopper" or "blackwell".
        gate_first: gemm1_weights holds gate rows first, then up rows.
        max_sms: multiprocessors that the grouped products may use, at most; 0 is all. Ignored on the CPU.
        max_threads: threads that a call may use on the CPU, at most; 0 is all that the process may run on.
        max_local_picks, min_weight_share: pruning, for a result that is no longer the layer's. Of a token's picks on this rank
            those with less than min_weight_share (in [0, 1)) of the weights of all its picks are dropped, then all but the
            max_local_picks (0 to top_k; 0 is any number) of largest weight; what stays keeps its weight. path and explain then
            say PRUNED.
        batch_invariant: a token's row has the same bits whatever T, max_tokens and the other tokens are. On hopper few rows may then miss
            the error gates; blackwell does not offer it.
        intermediate_type: what stands between the two products: "e4m3", one code a value, or "e4m3x2", with a second code for what the first
            leaves over, which takes the output's relative L2 error against a layer that does not requantise from 0.023 to below 0.002.
            blackwell offers "e4m3" alone.
        policy: which products "blackwell" runs: "auto" (ours), "reference_b200" (the branches of the benchmark's original), "cutlass"
            or "trtllm". What is missing is replaced, and explain says so. Other backends ignore it.
        trtllm_gemm1, trtllm_gemm2: of "reference_b200": whether a product may be TRTLLM's.
        mma_gemm2_m_threshold: of "reference_b200": gemm2 of more rows multiplies by mma.sync; 0 is never.
        trtllm_gemm2_m_threshold: of "reference_b200": gemm2 of more rows is not TRTLLM's; 1 or more.

    Raises:
        ValueError: a number outside its range, or nothing in this build runs this on this device; the message says why.

    On the CPU the plan has threads from its first bind() on. A child process after fork() lacks them: make a plan there.
    """

    __slots__ = ("_handle", "_top_k")

    def __init__(
        self,
        max_tokens: int,
        device: object,
        *,
        experts: int = 256,
        hidden: int = 7168,
        intermediate: int = 2048,
        local_experts: int = 32,
        top_k: int = 8,
        n_group: int = 8,
        topk_group: int = 4,
        backend: str = "auto",
        gate_first: bool = False,
        max_sms: int = 0,
        max_threads: int = 0,
        max_local_picks: int = 0,
        min_weight_share: float = 0.0,
        batch_invariant: bool = False,
        intermediate_type: str = "e4m3",
        policy: str = "auto",
        trtllm_gemm1: bool = True,
        trtllm_gemm2: bool = True,
        mma_gemm2_m_threshold: int = 0,
        trtllm_gemm2_m_threshold: int = 20_000,
    ) -> None:
        self._top_k = top_k
        if trtllm_gemm2_m_threshold < 1:
            raise ValueError(f"trtllm_gemm2_m_threshold: {trtllm_gemm2_m_threshold}, expected 1 or more")
        self._handle: Any = _core.make_plan(
            max_tokens,
            experts,
            hidden,
            intermediate,
            local_experts,
            top_k,
            n_group,
            topk_group,
            str(device),  # a torch.device too
            _core.backend_number(backend),
            gate_first,
            max_sms,
            max_threads,
            max_local_picks,
            min_weight_share,
            batch_invariant,
            _core.intermediate_type_number(intermediate_type),
            _core.policy_number(policy),
            trtllm_gemm1,
            trtllm_gemm2,
            mma_gemm2_m_threshold,
            trtllm_gemm2_m_threshold,
        )

    @property
    def workspace_bytes(self) -> int:
        """Bytes of uint8 that a call's workspace needs, wherever they begin. Any contents; any T up to max_tokens."""
        return int(_core.plan_workspace_bytes(self._handle))

    @property
    def path(self) -> str:
        """The backend and what it chose within: "cpu/avx512_bf16"."""
        return str(_core.plan_path(self._handle))

    @property
    def explain(self) -> str:
        """What runs and why, a line a decision."""
        return str(_core.plan_explain(self._handle))

    def bind(self, weights: Weights) -> BoundPlan:
        """Validates the weights and builds what the kernels need of them; copies none.

        Raises:
            ValueError: a tensor is not as Weights says; the message names it.
        """
        handle = bind_weights(_core.plan_bind, self._handle, weights)
        return BoundPlan(handle, weights, self._top_k)
