"""The ranks of a group and what passes between them on the CPU: a tensor from each to each, or an error that names a rank.

Set-up goes through the group's store, where a rank that is missing shows by its key; steps go through torch.distributed's
point-to-point calls over gloo, each of which has one rank at its other end.
"""

import contextlib
import datetime
import json
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed as dist

Answer = TypeVar("Answer")

# How long a store may take to answer when a step has already failed: the host of the store may be what failed.
_STORE_PATIENCE = 1.0


class RankError(RuntimeError):
    """Another rank did not do its part. The message says which and what is known of it.

    Attributes:
        ranks: the ranks at fault, as the group counts them.
    """

    def __init__(self, message: str, ranks: Sequence[int] = ()) -> None:  # as pickle makes them
        super().__init__(message)
        self.ranks = tuple(ranks)


def _named(ranks: Sequence[int]) -> str:
    return f"rank {ranks[0]}" if len(ranks) == 1 else "ranks " + ", ".join(map(str, ranks))


def _seconds(timeout: datetime.timedelta) -> str:
    return f"{timeout.total_seconds():g} s"


class Ranks:
    """A rank's view of its group, over connections of its own: a fault leaves the caller's group as it is.

    Args:
        group: of torch.distributed; None is the default group.
        timeout: the longest wait for another rank, at set-up and in each swap().
        description: JSON's types; what the other ranks must know of this one before anything else.

    Raises:
        RankError: a rank did not come within the timeout.
    """

    def __init__(self, group: Any, timeout: datetime.timedelta, description: dict[str, Any]) -> None:
        parent = dist.group.WORLD if group is None else group
        self._members: list[int] = dist.get_process_group_ranks(parent)  # as the default group counts them
        self._timeout = timeout
        self._fault: RankError | None = None
        self._connections: Any = None
        self.rank = int(dist.get_rank(parent))
        self.size = len(self._members)
        bound = timeout.total_seconds() + 2 * _STORE_PATIENCE
        exchanged = _within(bound, lambda: self._exchanged(parent.get_group_store(), description))
        if exchanged is None:
            raise RankError("the group's store does not answer; the rank that holds it may be gone")
        self._store, self.descriptions, missing = exchanged
        if missing:
            raise RankError(f"{_named(missing)}: no EpGroup made within {_seconds(timeout)}", missing)

    def _exchanged(self, store: Any, description: dict[str, Any]) -> tuple[Any, list[dict[str, Any]], list[int]]:
        """This group's part of the store; what all ranks described; or those that did not."""
        # The n-th group that a rank makes meets the n-th of the others.
        number = store.add(f"blockmoe/expert_parallel/{self.rank}", 1)
        store = dist.PrefixStore(f"blockmoe/expert_parallel/group {number}", store)
        keys = [f"description {rank}" for rank in range(self.size)]
        store.set(keys[self.rank], json.dumps(description))
        missing: list[int] = []
        try:
            store.wait(keys, self._timeout)
        except RuntimeError:
            missing = [rank for rank, key in enumerate(keys) if not store.check([key])]
        descriptions = [] if missing else [json.loads(store.get(key)) for key in keys]
        # Where the store is this process's, others still ask it. They may also be done and gone.
        store.set(f"seen {self.rank}", "")
        with contextlib.suppress(RuntimeError):
            seen = [f"seen {rank}" for rank in range(self.size) if rank not in missing]
            store.wait(seen, datetime.timedelta(seconds=_STORE_PATIENCE))
        return store, descriptions, missing

    def connect(self) -> None:
        """Opens the connections that swap() uses. Every rank calls it, once what the others described is accepted."""
        self._connections = dist.new_group(
            self._members, timeout=self._timeout, backend="gloo", use_local_synchronization=True
        )

    def swap(self, outgoing: Sequence[torch.Tensor], incoming: Sequence[torch.Tensor], tag: int) -> None:
        """outgoing[r] goes to rank r and incoming[r] comes from it; what is empty does not travel.

        All contiguous on the CPU, and as long as the other end says. This rank's own is copied.

        Raises:
            RankError: a rank closed its connection, or did not send or take its part within the timeout. The group is of no
                further use then: swap() raises the same again.
        """
        if self._fault is not None:
            raise self._fault
        deadline = time.monotonic() + self._timeout.total_seconds()
        incoming[self.rank].copy_(outgoing[self.rank])
        others = [rank for rank in range(self.size) if rank != self.rank]
        started: list[tuple[int, Any]] = []
        failed: dict[int, str] = {}
        for call, tensors in ((dist.irecv, incoming), (dist.isend, outgoing)):
            for rank in others:
                if tensors[rank].numel() > 0:
                    try:
                        started.append((rank, call(tensors[rank], self._members[rank], self._connections, tag)))
                    except RuntimeError as error:
                        failed[rank] = str(error)
        for rank, work in started:
            left = deadline - time.monotonic()
            if failed and left > 0:
                break  # that rank's connection is gone; others that have not come yet may only be slower
            try:
                work.wait(datetime.timedelta(seconds=max(left, 0.001)))
            except RuntimeError as error:
                failed.setdefault(rank, str(error))
        if failed:
            late = time.monotonic() >= deadline
            reason = f"no answer within {_seconds(self._timeout)}" if late else "its connection is closed"
            self._give_up(RankError(f"{_named(sorted(failed))}: {reason}", sorted(failed)), "; ".join(failed.values()))

    def abandon(self, reason: str) -> None:
        """Says that this rank stops in the middle of a step. The others' swap() raises, in this rank's name."""
        self._record_fault(RankError(f"rank {self.rank}: {reason}", [self.rank]))

    def say(self, key: str, text: str) -> None:
        """Leaves a text for the other ranks. It may reach them after a message that was sent later."""
        self._store.set(f"{key} {self.rank}", text)

    def said(self, key: str, rank: int) -> str:
        """What a rank leaves there."""
        self._store.wait([f"{key} {rank}"], self._timeout)
        return str(self._store.get(f"{key} {rank}").decode())

    def said_at_once(self, key: str, rank: int) -> str | None:
        """What a rank has left there; None: nothing yet."""
        return self.said(key, rank) if self._store.check([f"{key} {rank}"]) else None

    def _give_up(self, seen: RankError, details: str) -> NoReturn:
        raise self._record_fault(seen) from RuntimeError(details)

    def _record_fault(self, seen: RankError) -> RankError:
        """The group's first fault: this one, or the one that made other ranks leave, which is all that was seen here."""
        note = json.dumps({"ranks": seen.ranks, "message": str(seen), "by": self.rank})
        first = _within(_STORE_PATIENCE, lambda: json.loads(self._store.compare_set("fault", "", note)))
        if first is None or first["by"] == self.rank:
            self._fault = seen
        else:
            self._fault = RankError(f"{first['message']} (seen by rank {first['by']})", first["ranks"])
        self._close()
        return self._fault

    def _close(self) -> None:
        """The other ranks see closed connections, at once."""
        connections, self._connections = self._connections, None
        if connections is not None:
            dist.destroy_process_group(connections)


def _within(seconds: float, ask: Callable[[], Answer]) -> Answer | None:
    """What `ask` returns, or None where it fails or takes longer."""
    answers: list[Answer] = []

    def answer() -> None:
        try:
            answers.append(ask())
        except RuntimeError:
            return

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    thread.join(seconds)
    return answers[0] if answers else None
