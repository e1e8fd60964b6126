"""The whole layer over several ranks, each with a part of the experts and with tokens of its own. Needs PyTorch.

    group = blockmoe.expert_parallel.EpGroup(None, max_tokens, "cpu", experts=256, ...)      once a model; None: all ranks
    bound = group.bind(weights)                                                             once a layer
    output = bound.run(routing_logits, hidden_states, hidden_states_scale)                  each step

Every rank makes the group, binds its layers in the same order, and calls run() for the same layers in the same order, with as
many tokens as it has: 0 too. Each gets the rows of its own tokens: same inputs, same bits.
"""

import dataclasses
import datetime
from collections.abc import Sequence
from typing import Any

import torch

from . import __version__
from ._expert_map import ExpertMap, require_agreement
from ._expert_parallel_cpu import BLOCK, CpuLayer
from ._plan import Plan, Weights
from ._ranks import RankError, Ranks

__all__ = ["BoundEpGroup", "EpGroup", "RankError"]

_WAYS = ("auto", "gather", "exchange")


class EpGroup:
    """The ranks of a process group as one layer. Made by all of them at once, with the same arguments but those marked *own*.

    Args:
        group: of torch.distributed; None is the default group. What goes wrong here leaves it as it is.
        max_tokens: largest T of a rank in any call.
        device: "cpu".
        experts: E, over all ranks; without a map every rank has E/N, in the order of the ranks.
        hidden, intermediate, top_k, n_group, topk_group: as of Plan.
        expert_map: *own*; global numbers of this rank's experts [L], in the order of its weights; L may differ. All ranks have
            one or none has. An expert may stand on several ranks: of token t of rank r, holder number (r + t) modulo their
            count computes it.
        way: "gather": a token's row goes to every rank. "exchange": to those that have one of its picks. "auto": exchange,
            which on the CPU never sends more. Both give the same bits.
        timeout: the longest that this rank waits for another, at set-up and for each of the three messages of a step.
        backend, gate_first, max_sms, max_threads: *own*; as of Plan.

    Raises:
        ValueError: an argument is none that a Plan takes; or differs from another rank's: then the message has both values and
            the rank, and every rank raises it.
        RankError: a rank did not come within the timeout.
    """

    def __init__(
        self,
        group: Any,
        max_tokens: int,
        device: object = "cpu",
        *,
        experts: int = 256,
        hidden: int = 7168,
        intermediate: int = 2048,
        top_k: int = 8,
        n_group: int = 8,
        topk_group: int = 4,
        expert_map: Sequence[int] | None = None,
        way: str = "auto",
        timeout: datetime.timedelta = datetime.timedelta(seconds=30),
        backend: str = "auto",
        gate_first: bool = False,
        max_sms: int = 0,
        max_threads: int = 0,
    ) -> None:
        if str(device) != "cpu":
            raise ValueError(f"device: {device}, expected cpu")
        if way not in _WAYS:
            raise ValueError(f'way: "{way}", expected {", ".join(_WAYS)}')
        size, rank = torch.distributed.get_world_size(group), torch.distributed.get_rank(group)
        if expert_map is not None:
            held = [int(expert) for expert in expert_map]
        elif experts % size == 0:
            held = list(range(rank * experts // size, (rank + 1) * experts // size))
        else:
            raise ValueError(f"experts: {experts} on {size} ranks without a map, expected a multiple")
        geometry = {
            "experts": experts,
            "hidden": hidden,
            "intermediate": intermediate,
            "top_k": top_k,
            "n_group": n_group,
            "topk_group": topk_group,
        }
        plan = Plan(
            max_tokens * size,
            device,
            **geometry,
            local_experts=len(held),
            backend=backend,
            gate_first=gate_first,
            max_sms=max_sms,
            max_threads=max_threads,
        )
        description: dict[str, Any] = {
            **geometry,
            "version": __version__,
            "device": str(device),
            "max_tokens": max_tokens,
            "way": way,
            "expert_map": "none" if expert_map is None else "given",
            "held": held,
        }
        ranks = Ranks(group, timeout, description)
        require_agreement(ranks.descriptions)
        self._experts = ExpertMap([described["held"] for described in ranks.descriptions], experts)
        ranks.connect()
        self._ranks, self._plan, self._geometry, self._max_tokens = ranks, plan, geometry, max_tokens
        self._way = "exchange" if way == "auto" else way
        self._offset = 0 if expert_map is not None else held[0]
        self._workspace = torch.empty(plan.workspace_bytes, dtype=torch.uint8)
        self._layers = 0

    @property
    def way(self) -> str:
        """What runs: "gather" or "exchange"."""
        return self._way

    @property
    def local_expert_offset(self) -> int:
        """What this rank's Weights must say: the global number of its expert 0, or 0 with a map."""
        return self._offset

    def bind(self, weights: Weights) -> "BoundEpGroup":
        """A layer of this group. Every rank binds its layers in the same order; nothing is sent.

        Args:
            weights: of this rank's experts; routing_bias and routed_scaling_factor are those of all ranks.

        Raises:
            ValueError: local_expert_offset is not the group's, or a tensor is not as Weights says; the message names it.
        """
        if weights.local_expert_offset != self._offset:
            raise ValueError(f"local_expert_offset: {weights.local_expert_offset}, expected {self._offset} (the group's)")
        # Picks arrive by their numbers on this rank.
        bound = self._plan.bind(dataclasses.replace(weights, local_expert_offset=0))
        self._layers += 1
        layer = CpuLayer(self._ranks, self._experts, bound, self._layers, self._way == "gather", self._workspace)
        return BoundEpGroup(layer, self._geometry["experts"], self._geometry["hidden"], self._max_tokens)


class BoundEpGroup:
    """A group with the weights of one layer. Made by EpGroup.bind(). Calls of a group, of all its layers together, are made one
    at a time, in the same order on every rank.

    It keeps the weights' tensors alive. Their contents may change between calls.
    """

    __slots__ = ("_experts", "_hidden", "_layer", "_max_tokens")

    def __init__(self, layer: CpuLayer, experts: int, hidden: int, max_tokens: int) -> None:
        self._layer = layer
        self._experts = experts
        self._hidden = hidden
        self._max_tokens = max_tokens

    def run(
        self,
        routing_logits: torch.Tensor,
        hidden_states: torch.Tensor,
        hidden_states_scale: torch.Tensor,
        output: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """One step, called by all ranks; T is this rank's own, from 0 to the group's max_tokens.

        Args:
            routing_logits: [T, E] f32 or bf16; a row pitch is accepted.
            hidden_states: [T, H] e4m3 or uint8.
            hidden_states_scale: [H/128, T] f32, one factor for 128 values of a token.
            output: [T, H] bf16; None: a new one.

        Returns:
            output: the rows of this rank's tokens, over the experts of all ranks: each rank's part in f32, summed in the order of
            the ranks, then one rounding. A NaN in a token's row reaches that row alone.

        Raises:
            ValueError, TypeError: an argument is not as above; the message names it. The other ranks' calls raise RankError with
                that message, at once, and the group goes on.
            RankError: a rank refused its arguments, or runs another layer, and the group goes on. Or a rank closed its
                connection, failed in its step or did not answer within the timeout; then the group is of no further use, and
                each later call raises the same. output is not written.
        """
        try:
            self._require_accepted(routing_logits, hidden_states, hidden_states_scale, output)
            ids, weights = self._layer.route(routing_logits)
        except (TypeError, ValueError) as refusal:
            self._layer.refuse(str(refusal))
            raise
        with torch.no_grad():
            return self._layer.run(ids, weights, hidden_states.view(torch.uint8), hidden_states_scale, output)

    def _require_accepted(
        self, logits: torch.Tensor, hidden: torch.Tensor, scale: torch.Tensor, output: torch.Tensor | None
    ) -> None:
        _require("hidden_states", hidden, (None, self._hidden), (torch.float8_e4m3fn, torch.uint8))
        tokens = len(hidden)
        if tokens > self._max_tokens:
            raise ValueError(f"hidden_states: {tokens} tokens, expected 0 to {self._max_tokens} (the group's max_tokens)")
        _require("routing_logits", logits, (tokens, self._experts), (torch.float32, torch.bfloat16))
        _require("hidden_states_scale", scale, (self._hidden // BLOCK, tokens), (torch.float32,))
        if output is not None:
            _require("output", output, (tokens, self._hidden), (torch.bfloat16,))


def _require(argument: str, tensor: object, shape: tuple[int | None, ...], types: tuple[torch.dtype, ...]) -> None:
    """Raises ValueError, or TypeError for what is no tensor of PyTorch's. None in a shape is any size."""
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"{argument}: {type(tensor).__name__}, expected a torch.Tensor")
    if tensor.device.type != "cpu":
        raise ValueError(f"{argument}: on {tensor.device}, expected cpu (the group's)")
    if tensor.dtype not in types:
        raise ValueError(f"{argument}: type {tensor.dtype}, expected {' or '.join(map(str, types))}")
    if len(tensor.shape) != len(shape) or any(want not in (None, got) for want, got in zip(shape, tensor.shape)):
        wanted = ", ".join("T" if want is None else str(want) for want in shape)
        raise ValueError(f"{argument}: shape {list(tensor.shape)}, expected [{wanted}]")
