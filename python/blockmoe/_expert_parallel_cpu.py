"""A step of the layer over the ranks of a group on the CPU: tokens out, their parts computed, parts back, their sum.

    topk_ids, topk_weights [T, K]   of the own tokens: routed here
    record                          a token as it travels: its row [H] e4m3, its scales [H/128] f32, its picks' numbers at the
                                    receiver [K] int32 (-1: computed elsewhere), their weights [K] f32, padded to 16 bytes
    part [H] f32                    what a rank's experts add to a token's row

gather sends a token's record to every rank, exchange to those that have one of its picks.
"""

from collections.abc import Sequence

import torch

from ._expert_map import ExpertMap
from ._plan import BoundPlan
from ._ranks import RankError, Ranks

BLOCK = 128  # values of a row that share a scale
_RECORD_ALIGNMENT = 16  # bytes; what the operator asks of hidden_states, which it reads where it arrives

# Messages of a step, in their order.
_HEADER, _RECORDS, _PARTS = 0, 1, 2
_REFUSED = -1  # in place of a count of records: the rank's arguments were not accepted


class CpuLayer:
    """One layer on one rank.

    Args:
        ranks: connected.
        experts: of all ranks.
        bound: this rank's experts, local expert 0 being its expert 0.
        number: of the layer in its group, from 1.
        gathers: every rank computes its part of every token.
        workspace: of the bound plan; calls of a group never run at the same time.
    """

    def __init__(
        self, ranks: Ranks, experts: ExpertMap, bound: BoundPlan, number: int, gathers: bool, workspace: torch.Tensor
    ) -> None:
        self._ranks = ranks
        self._experts = experts
        self._bound = bound
        self._number = number
        self._gathers = gathers
        self._workspace = workspace

    def route(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """topk_ids and topk_weights [T, K]. Raises ValueError for logits that the library does not take."""
        return self._bound.route(logits)

    def run(
        self,
        ids: torch.Tensor,
        weights: torch.Tensor,
        hidden: torch.Tensor,
        scale: torch.Tensor,
        output: torch.Tensor | None,
    ) -> torch.Tensor:
        """BoundEpGroup.run() of route()'s picks; hidden [T, H] uint8, scale [H/128, T] f32, output [T, H] bf16."""
        ranks = self._ranks
        computing, numbers = self._experts.holders_of(ids, ranks.rank)
        tokens_of = [self._tokens_for(rank, computing) for rank in range(ranks.size)]
        sent = [len(tokens) for tokens in tokens_of]
        received = self._swap_counts(sent)
        try:
            outgoing = []
            for rank, tokens in enumerate(tokens_of):
                numbers_there = torch.where(computing == rank, numbers, -1)
                outgoing.append(records([hidden[tokens], scale.T[tokens], numbers_there[tokens], weights[tokens]]))
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

    def refuse(self, reason: str) -> None:
        """Tells the other ranks, which are in run(), that this one's arguments were not accepted."""
        self._ranks.say("refusal", reason)
        self._swap_counts([_REFUSED] * self._ranks.size)

    def _tokens_for(self, rank: int, computing: torch.Tensor) -> torch.Tensor:
        """Own tokens that a rank gets, ascending."""
        if self._gathers:
            return torch.arange(len(computing))
        return (computing == rank).any(1).nonzero().flatten()

    def _swap_counts(self, counts: Sequence[int]) -> list[int]:
        """Records that each rank sends here.

        Raises RankError where a rank's call is none of this step: refused, or of another layer.
        """
        ranks = self._ranks
        headers = torch.empty(ranks.size, 2, dtype=torch.int64)
        ranks.swap([torch.tensor([self._number, count]) for count in counts], list(headers), _HEADER)
        found: list[list[int]] = headers.tolist()
        if counts[ranks.rank] == _REFUSED:
            return []
        for rank, (_, count) in enumerate(found):
            if count == _REFUSED:
                raise RankError(f"rank {rank} refused its arguments: {ranks.said('refusal', rank)}", [rank])
        for rank, (number, _) in enumerate(found):
            if number != self._number:
                raise RankError(f"rank {rank}: runs layer {number} of the group, expected {self._number} as here", [rank])
        return [count for _, count in found]

    def _compute(self, arrived: torch.Tensor, hidden: int, top_k: int) -> torch.Tensor:
        """[records, H] f32: this rank's part of each record that arrived."""
        numbers_at = hidden + hidden // BLOCK * 4
        weights_at = numbers_at + top_k * 4
        scale = arrived[:, hidden:numbers_at].view(torch.float32).T.contiguous()
        numbers = arrived[:, numbers_at:weights_at].view(torch.int32)
        weights = arrived[:, weights_at : weights_at + top_k * 4].view(torch.float32)
        parts = torch.empty(len(arrived), hidden)
        return self._bound.run_prerouted(numbers, weights, arrived[:, :hidden], scale, parts, workspace=self._workspace)


def records(fields: Sequence[torch.Tensor]) -> torch.Tensor:
    """[n, bytes] uint8: the rows of all fields side by side, padded."""
    # Copies: without rows the strides of a contiguous tensor may be any, and a view as bytes refuses them.
    columns = [field.clone(memory_format=torch.contiguous_format).view(torch.uint8) for field in fields]
    padding = -sum(column.shape[1] for column in columns) % _RECORD_ALIGNMENT
    return torch.cat([*columns, columns[0].new_zeros(len(columns[0]), padding)], 1)
