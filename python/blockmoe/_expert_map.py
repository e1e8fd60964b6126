"""Which rank has which experts and which of them computes a pick: decided once, from what all ranks said, the same on each."""

from collections.abc import Sequence
from typing import Any

import torch

# What must be the same on all ranks, of the description that each gives.
_SHARED = (
    "version",
    "device",
    "experts",
    "hidden",
    "intermediate",
    "top_k",
    "n_group",
    "topk_group",
    "gate_first",
    "max_local_picks",
    "batch_invariant",
    "max_tokens",
    "way",
    "expert_map",
)


def require_agreement(descriptions: Sequence[dict[str, Any]]) -> None:
    """Raises ValueError, on every rank alike, for the first thing in which a rank differs from rank 0."""
    for name in _SHARED:
        for rank, description in enumerate(descriptions):
            if description[name] != descriptions[0][name]:
                raise ValueError(f"{name}: {description[name]} on rank {rank}, expected {descriptions[0][name]} as on rank 0")


class ExpertMap:
    """The holders of each expert, in the order of their ranks.

    Args:
        experts_of_rank: [ranks][L], global numbers in the order of the rank's weights; L may differ.
        experts: E.

    Raises:
        ValueError: a number is not among the E or stands twice on a rank, or an expert is on no rank.
    """

    def __init__(self, experts_of_rank: Sequence[Sequence[int]], experts: int) -> None:
        holders: list[dict[int, int]] = [{} for _ in range(experts)]  # rank -> the expert's number there
        for rank, held in enumerate(experts_of_rank):
            for number, expert in enumerate(held):
                if not 0 <= expert < experts:
                    raise ValueError(f"expert_map: expert {expert} on rank {rank}, expected 0 to {experts - 1}")
                if rank in holders[expert]:
                    raise ValueError(f"expert_map: expert {expert} twice on rank {rank}, expected once at most")
                holders[expert][rank] = number
        for expert, found in enumerate(holders):
            if not found:
                raise ValueError(f"expert_map: expert {expert} on no rank, expected each of {experts} on one at least")
        most = max(map(len, holders))
        self._counts = torch.tensor([len(found) for found in holders])  # [E]
        self._ranks = torch.tensor([[*found, *[-1] * (most - len(found))] for found in holders])  # [E, most]
        self._numbers = torch.tensor([[*found.values(), *[-1] * (most - len(found))] for found in holders], dtype=torch.int32)

    def holders_of(self, topk_ids: torch.Tensor, home: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Who computes the picks of rank `home`: of its token t, holder number (home + t) modulo their count.

        Args:
            topk_ids: [T, K] global numbers.

        Returns:
            The rank [T, K], and the expert's number there [T, K] int32.
        """
        ids = topk_ids.long()
        turn = (home + torch.arange(len(ids)))[:, None] % self._counts[ids]
        return self._ranks[ids, turn], self._numbers[ids, turn]
