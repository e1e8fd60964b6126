"""A step of the layer over the ranks of a group on the CPU: tokens out, their parts computed, parts back, their sum.

    topk_ids, topk_weights [T, K]   of the own tokens: routed here
    record                          a token as it travels: its row [H] e4m3, its scales [H/128] f32, its picks' numbers at the
                                    receiver [K] int32 (-1: computed elsewhere), their weights [K] f32, padded to 16 bytes
    part [H] f32                    what a rank's experts add to a token's row

gather sends a token's record to every rank, exchange to those that have one of its picks.
"""

import dataclasses
from collections.abc import Sequence

import torch

from ._expert_map import ExpertMap
from ._plan import BoundPlan, Plan, Weights
from ._ranks import RankError, Ranks

_BLOCK = 128  # values of a row that share a scale
_RECORD_ALIGNMENT = 16  # bytes; what the operator asks of hidden_states, which it reads where it arrives

# Messages of a step, in their order.
_HEADER, _RECORDS, _PARTS = 0, 1, 2


class CpuGroup:
    """EpGroup's part on the CPU.

    Args:
        ranks: what they described agrees.
        experts: of all ranks.
        plan: of N times max_tokens, with this rank's experts.
        sizes: of a step.
        offset: what Weights must say.
        gathers: every rank computes its part of every token.
    """

    def __init__(
        self, ranks: Ranks, experts: ExpertMap, plan: Plan, sizes: "Sizes", *, offset: int, gathers: bool
    ) -> None:
        ranks.connect()
        self.ranks, self.experts, self.sizes, self.gathers = ranks, experts, sizes, gathers
        self.workspace = torch.empty(plan.workspace_bytes, dtype=torch.uint8)  # calls of a group never run at the same time
        self._plan = plan
        self._offset = offset
        self._layers = 0
        self.refusals = 0  # by this rank

    @property
    def explain(self) -> str:
        return self._plan.explain

    def way(self, _most_tokens: int) -> str:
        return "gather" if self.gathers else "exchange"

    def bind(self, weights: Weights) -> "CpuLayer":
        if weights.local_expert_offset != self._offset:
            raise ValueError(f"local_expert_offset: {weights.local_expert_offset}, expected {self._offset} (the group's)")
        # Picks arrive by their numbers on this rank.
        bound = self._plan.bind(dataclasses.replace(weights, local_expert_offset=0))
        self._layers += 1
        return CpuLayer(self, bound, self._layers)

    def check(self) -> None:
        """Nothing: run() has waited."""


@dataclasses.dataclass(frozen=True)
class Sizes:
    experts: int
    hidden: int
    max_tokens: int


class CpuLayer:
    """One layer on one rank: number `number` of its group, from 1."""

    def __init__(self, group: CpuGroup, bound: BoundPlan, number: int) -> None:
        self._group = group
        self._ranks = group.ranks
        self._bound = bound
        self._number = number

    def run(
        self,
        logits: torch.Tensor,
        hidden: torch.Tensor,
        scale: torch.Tensor,
        output: torch.Tensor | None,
        most_tokens: int,
    ) -> torch.Tensor:
        """BoundEpGroup.run()"""
        most = most_tokens or self._group.sizes.max_tokens
        try:
            self._require_accepted(logits, hidden, scale, output, most)
            ids, weights = self._bound.route(logits)
        except (TypeError, ValueError) as refusal:
            self._refuse(str(refusal), most)
            raise
        with torch.no_grad():
            return self._step(ids, weights, hidden.view(torch.uint8), scale, output, most)

    def _step(
        self,
        ids: torch.Tensor,
        weights: torch.Tensor,
        hidden: torch.Tensor,
        scale: torch.Tensor,
        output: torch.Tensor | None,
        most: int,
    ) -> torch.Tensor:
        ranks = self._ranks
        computing, numbers = self._group.experts.holders_of(ids, ranks.rank)
        tokens_of = [self._tokens_for(rank, computing) for rank in range(ranks.size)]
        sent = [len(tokens) for tokens in tokens_of]
        received = self._swap_counts(sent, most)
        try:
            outgoing = []
            for rank, tokens in enumerate(tokens_of):
                numbers_there = torch.where(computing == rank, numbers, -1)
                outgoing.append(_records([hidden[tokens], scale.T[tokens], numbers_there[tokens], weights[tokens]]))
            arrived = outgoing[0].new_empty(sum(received), outgoing[0].shape[1])
            ranks.swap(outgoing, arrived.split(received), _RECORDS)
            parts = self._compute(arrived, hidden.shape[1], ids.shape[1])
            returned = torch.empty(sum(sent), hidden.shape[1])
            ranks.swap(parts.split(received), returned.split(sent), _PARTS)
        except RankError:
            raise
        except BaseException as error:
            ranks.abandon(f"{type(error).__name__} in the middle of a step ({error})")
            raise
        total = torch.zeros(hidden.shape)
        for tokens, part in zip(tokens_of, returned.split(sent), strict=True):
            total.index_add_(0, tokens, part)
        return total.to(torch.bfloat16) if output is None else output.copy_(total)

    def _require_accepted(
        self,
        logits: torch.Tensor,
        hidden: torch.Tensor,
        scale: torch.Tensor,
        output: torch.Tensor | None,
        most: int,
    ) -> None:
        sizes = self._group.sizes
        if not 0 < most <= sizes.max_tokens:
            raise ValueError(f"most_tokens: {most}, expected 0 to {sizes.max_tokens} (the group's max_tokens)")
        _require("hidden_states", hidden, (None, sizes.hidden), (torch.float8_e4m3fn, torch.uint8))
        tokens = len(hidden)
        if tokens > most:
            raise ValueError(f"hidden_states: {tokens} tokens, expected 0 to {most} (most_tokens)")
        _require("routing_logits", logits, (tokens, sizes.experts), (torch.float32, torch.bfloat16))
        _require("hidden_states_scale", scale, (sizes.hidden // _BLOCK, tokens), (torch.float32,))
        if output is not None:
            _require("output", output, (tokens, sizes.hidden), (torch.bfloat16,))

    def _tokens_for(self, rank: int, computing: torch.Tensor) -> torch.Tensor:
        """Own tokens that a rank gets, ascending."""
        if self._group.gathers:
            return torch.arange(len(computing))
        return (computing == rank).any(1).nonzero().flatten()

    def _refuse(self, reason: str, most: int) -> None:
        """Tells the other ranks, which are in run(), that this one's arguments were not accepted."""
        self._group.refusals += 1
        self._ranks.say(f"refusal {self._group.refusals} of rank", reason)
        self._swap_counts([-self._group.refusals] * self._ranks.size, most)

    def _swap_counts(self, counts: Sequence[int], most: int) -> list[int]:
        """Records that each rank sends here. A negative count is the number of a rank's refusal.

        Raises RankError where a rank's call is none of this step: refused, or of another layer or most_tokens.
        """
        ranks = self._ranks
        headers = torch.empty(ranks.size, 3, dtype=torch.int64)
        ranks.swap([torch.tensor([count, self._number, most]) for count in counts], list(headers), _HEADER)
        found: list[list[int]] = headers.tolist()
        if counts[ranks.rank] < 0:
            return []
        for rank, (count, _, _) in enumerate(found):
            if count < 0:
                reason = ranks.said(f"refusal {-count} of rank", rank)
                raise RankError(f"rank {rank} refused its arguments: {reason}", [rank])
        for rank, (_, number, their_most) in enumerate(found):
            if number != self._number:
                raise RankError(f"rank {rank}: runs layer {number} of the group, expected {self._number} as here", [rank])
            if their_most != most:
                raise RankError(f"rank {rank}: most_tokens {their_most}, expected {most} as here", [rank])
        return [count for count, _, _ in found]

    def _compute(self, arrived: torch.Tensor, hidden: int, top_k: int) -> torch.Tensor:
        """[records, H] f32: this rank's part of each record that arrived."""
        numbers_at = hidden + hidden // _BLOCK * 4
        weights_at = numbers_at + top_k * 4
        scale = arrived[:, hidden:numbers_at].view(torch.float32).T.contiguous()
        numbers = arrived[:, numbers_at:weights_at].view(torch.int32)
        weights = arrived[:, weights_at : weights_at + top_k * 4].view(torch.float32)
        parts = torch.empty(len(arrived), hidden)
        return self._bound.run_prerouted(numbers, weights, arrived[:, :hidden], scale, parts, workspace=self._group.workspace)


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


def _records(fields: Sequence[torch.Tensor]) -> torch.Tensor:
    """[n, bytes] uint8: the rows of all fields side by side, padded."""
    # Copies: without rows the strides of a contiguous tensor may be any, and a view as bytes refuses them.
    columns = [field.clone(memory_format=torch.contiguous_format).view(torch.uint8) for field in fields]
    padding = -sum(column.shape[1] for column in columns) % _RECORD_ALIGNMENT
    return torch.cat([*columns, columns[0].new_zeros(len(columns[0]), padding)], 1)
