"""Times of graphs of one call, taken as `blockmoe bench` takes them.

Before each replay 256 MiB are written and then another 256 MiB are read, so that nothing of the call is in the L2 and no
dirty line goes back to memory while it runs; events stand around the replay alone. Several graphs take turns replay by
replay, so that they see the same card in the same state.
"""

import dataclasses
import math
import statistics
import traceback
from collections.abc import Callable

import torch

FLUSH_BYTES = 256 << 20


@dataclasses.dataclass(frozen=True)
class Sample:
    """Microseconds."""

    median: float
    p10: float
    p90: float


def summarise(times: list[float]) -> Sample:
    """Median, and percentiles by nearest rank."""
    ordered = sorted(times)

    def rank(q: float) -> float:
        return ordered[max(0, math.ceil(q * len(ordered)) - 1)]

    return Sample(statistics.median(ordered), rank(0.1), rank(0.9))


class Clock:
    def __init__(self, warmup: int = 3, runs: int = 30) -> None:
        self.warmup, self.runs = warmup, runs
        self.stream = torch.cuda.Stream()
        self._dirty, self._clean = (torch.zeros(FLUSH_BYTES // 4, device="cuda") for _ in range(2))
        self._sum = torch.zeros((), device="cuda")

    def capture(self, call: Callable[[], None]) -> torch.cuda.CUDAGraph:
        """A graph of one call, after two without one: what they compile and allocate is not in it."""
        torch.cuda.synchronize()  # what the call needs was made on another stream
        with torch.cuda.stream(self.stream):
            for _ in range(2):
                call()
        self.stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
            call()
        return graph

    def replay(self, graph: torch.cuda.CUDAGraph) -> None:
        with torch.cuda.stream(self.stream):
            graph.replay()
        self.stream.synchronize()

    def take_turns(self, graphs: list[torch.cuda.CUDAGraph], runs: int | None = None) -> list[Sample]:
        times: list[list[float]] = [[] for _ in graphs]
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        with torch.cuda.stream(self.stream):
            for run in range(-self.warmup, runs or self.runs):
                for graph, its_times in zip(graphs, times, strict=True):
                    self._dirty.fill_(1.0)
                    torch.sum(self._clean, 0, out=self._sum)
                    start.record()
                    graph.replay()
                    stop.record()
                    stop.synchronize()
                    if run >= 0:
                        its_times.append(1e3 * start.elapsed_time(stop))
        return [summarise(t) for t in times]

    def ranking(
        self, calls: dict[str, Callable[[], None]], trying: Callable[[str], None]
    ) -> tuple[list[str], dict[str, float], dict[str, str]]:
        """Calls that do the same, the fastest first, by the median of a few replays; all medians; what failed and why.

        One that fails (not every way fits every shape) is left out; all failing is an error. A call alone is not timed.
        """
        if len(calls) == 1:
            return list(calls), {}, {}
        medians, errors = {}, {}
        for name, call in calls.items():
            trying(name)
            try:
                medians[name] = self.take_turns([self.capture(call)], runs=7)[0].median
            except Exception as error:  # noqa: BLE001: a compiler's too
                traceback.print_exc()
                torch.cuda.synchronize()  # raises where the process is lost
                errors[name] = str(error).strip().partition("\n")[0] or type(error).__name__
        if not medians:
            raise RuntimeError("; ".join(f"{name}: {error}" for name, error in errors.items()))
        return sorted(medians, key=medians.__getitem__), medians, errors
