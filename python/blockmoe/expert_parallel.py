"""The whole layer over several ranks, each with a part of the experts and with tokens of its own. Needs PyTorch.

    group = blockmoe.expert_parallel.EpGroup(None, max_tokens, "cpu", experts=256, ...)      once a model; None: all ranks
    bound = group.bind(weights)                                                             once a layer
    output = bound.run(routing_logits, hidden_states, hidden_states_scale)                  each step

Every rank makes the group, binds its layers in the same order, and calls run() for the same layers in the same order, with as
many tokens as it has: 0 too. Each gets the rows of its own tokens: same inputs, same bits.
"""

import datetime
from collections.abc import Sequence
from typing import Any

import torch

from . import __version__
from ._core import EP_WAYS
from ._expert_map import ExpertMap, require_agreement
from ._expert_parallel_cpu import CpuGroup, CpuLayer, Sizes
from ._expert_parallel_cuda import CudaGroup, CudaLayer
from ._plan import Plan, Weights
from ._ranks import RankError, Ranks

__all__ = ["BoundEpGroup", "EpGroup", "RankError"]


class EpGroup:
    """The ranks of a process group as one layer. Made by all of them at once, with the same arguments but those marked *own*.

    Args:
        group: of torch.distributed; None is the default group. What goes wrong here leaves it as it is.
        max_tokens: largest T of a rank in any call.
        device: "cpu": torch.distributed carries the rows, over gloo. Or this rank's CUDA device: NCCL (2.28 or later, what PyTorch
            has loaded) does, on a communicator of its own that lives as long as the process.
        experts: E, over all ranks; without a map every rank has E/N, in the order of the ranks.
        hidden, intermediate, top_k, n_group, topk_group: as of Plan.
        expert_map: *own*; global numbers of this rank's experts [L], in the order of its weights; L may differ. All ranks have
            one or none has. An expert may stand on several ranks: of token t of rank r, holder number (r + t) modulo their
            count computes it.
        way: "gather": a token's row goes to every rank. "exchange": to those that have one of its picks. "auto": on a CUDA device
            by the cost model, for each call; on the CPU exchange, which never sends more. There both give the same bits.
        timeout: the longest that this rank waits for another, at set-up, in check(), and on the CPU for each of the three
            messages of a step.
        backend, max_sms, max_threads: *own*; as of Plan.
        gate_first, batch_invariant: as of Plan.
        max_local_picks: as of Plan, on each rank. There is no min_weight_share: it is a share of all of a token's picks, and a rank
            knows its own alone.

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
        max_local_picks: int = 0,
        batch_invariant: bool = False,
    ) -> None:
        place = torch.device(str(device))
        if place.type not in ("cpu", "cuda"):
            raise ValueError(f"device: {device}, expected cpu or a CUDA device")
        if way not in EP_WAYS:
            raise ValueError(f'way: "{way}", expected {", ".join(EP_WAYS)}')
        size, rank = torch.distributed.get_world_size(group), torch.distributed.get_rank(group)
        if expert_map is not None:
            held = [int(expert) for expert in expert_map]
        elif experts % size == 0:
            held = list(range(rank * experts // size, (rank + 1) * experts // size))
        else:
            raise ValueError(f"experts: {experts} on {size} ranks without a map, expected a multiple")
        shared = {
            "experts": experts,
            "hidden": hidden,
            "intermediate": intermediate,
            "top_k": top_k,
            "n_group": n_group,
            "topk_group": topk_group,
        }
        geometry: dict[str, Any] = {**shared, "local_experts": len(held)}
        agreed = {"gate_first": gate_first, "max_local_picks": max_local_picks, "batch_invariant": batch_invariant}
        options: dict[str, Any] = {"backend": backend, "max_sms": max_sms, **agreed}
        # Before the other ranks are asked: what is wrong with these numbers themselves.
        plan = Plan(max_tokens * size, place, **geometry, **options, max_threads=max_threads)
        description: dict[str, Any] = {
            **shared,
            **agreed,
            "version": __version__,
            "device": place.type,
            "max_tokens": max_tokens,
            "way": way,
            "expert_map": "none" if expert_map is None else "given",
            "held": held,
        }
        ranks = Ranks(group, timeout, description)
        require_agreement(ranks.descriptions)
        experts_of_rank = ExpertMap([described["held"] for described in ranks.descriptions], experts)
        self._offset = 0 if expert_map is not None else held[0]
        self._on_device: CpuGroup | CudaGroup
        if place.type == "cpu":
            sizes = Sizes(experts, hidden, max_tokens)
            self._on_device = CpuGroup(
                ranks, experts_of_rank, plan, sizes, offset=self._offset, gathers=way == "gather"
            )
        else:
            number = torch.cuda.current_device() if place.index is None else place.index
            device_map = None if expert_map is None else held
            self._on_device = CudaGroup(
                ranks, max_tokens, torch.device("cuda", number), geometry, device_map, way=way, timeout=timeout, **options
            )

    def way(self, most_tokens: int = 0) -> str:
        """What a call of most_tokens runs: "gather" or "exchange"."""
        return self._on_device.way(most_tokens)

    @property
    def explain(self) -> str:
        """What runs and why, a line a decision."""
        return self._on_device.explain

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
        return BoundEpGroup(self._on_device.bind(weights))

    def check(self) -> None:
        """Waits until the current stream has passed what is on it, for at most the group's timeout. On the CPU run() has.

        Raises:
            RankError: it has not, or NCCL reports that a rank is gone. The message names those behind this one; the
                communicator was aborted, and the group is of no further use.
        """
        self._on_device.check()


class BoundEpGroup:
    """A group with the weights of one layer. Made by EpGroup.bind(). Calls of a group, of all its layers together, are made one
    at a time, in the same order on every rank.

    It keeps the weights' tensors alive. Their contents may change between calls.
    """

    __slots__ = ("_layer",)

    def __init__(self, layer: CpuLayer | CudaLayer) -> None:
        self._layer = layer

    def run(
        self,
        routing_logits: torch.Tensor,
        hidden_states: torch.Tensor,
        hidden_states_scale: torch.Tensor,
        output: torch.Tensor | None = None,
        *,
        most_tokens: int = 0,
    ) -> torch.Tensor:
        """One step, called by all ranks; T is this rank's own, from 0 to the group's max_tokens.

        Args:
            routing_logits: [T, E] f32 or bf16; a row pitch is accepted.
            hidden_states: [T, H] e4m3 or uint8.
            hidden_states_scale: [H/128, T] f32, one factor for 128 values of a token.
            output: [T, H] bf16; None: a new one.
            most_tokens: at least every rank's T, and the same on every rank; 0 is max_tokens. On a CUDA device a call's time and
                way go with it.

        Returns:
            output: the rows of this rank's tokens, over the experts of all ranks: each rank's part in f32, summed in the order of
            the ranks, then one rounding. A NaN in a token's row reaches that row alone.

        Raises:
            ValueError, TypeError: an argument is not as above; the message names it. On the CPU the other ranks' calls raise
                RankError with that message, at once, and the group goes on. On a CUDA device they wait: see EpGroup.check().
            RankError, on the CPU: a rank refused its arguments, or runs another layer, and the group goes on. Or a rank closed
                its connection, failed in its step or did not answer within the timeout; then the group is of no further use,
                and each later call raises the same. output is not written.
            RuntimeError: the device refused work.

        On a CUDA device the work has only been launched. After one call of its most_tokens it is safe under graph capture.
        """
        return self._layer.run(routing_logits, hidden_states, hidden_states_scale, output, most_tokens)
