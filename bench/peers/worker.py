#!/usr/bin/env python3
"""The process of one peer: reads requests from standard input, a line of JSON each, and answers each with a line.

    {"do": "compile", "T": 64}   every way called once, so that what it compiles is in the package's cache
    {"do": "measure", "T": 64}   the fastest way checked, then timed beside blockmoe and the floor

`without` in a request names ways that are left out. The first line that it writes says whether the peer runs here:
{"ok": true, "versions": ...} or {"ok": false, "error": ...}. Answers have the same `ok` and `error`; `lost` says that the
GPU no longer answers this process, `none_left` that no way was left to try. Before an answer there is a line
{"trying": name} for each way: whoever reads knows which one took the process with it.
"""

import argparse
import dataclasses
import functools
import gc
import json
import os
import pathlib
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any


def first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300] if lines else ''}"


class NoneLeft(ValueError):
    """Every way of a peer was left out."""


class Worker:
    def __init__(
        self, peer: str, max_tokens: int, reader: pathlib.Path | None, runs: int, trying: Callable[[str], None]
    ) -> None:
        import adapters
        import clock
        import floor
        import layer
        import torch
        from adapters.blockmoe_layer import Blockmoe

        self.torch, self.layers, self.trying = torch, layer, trying
        with torch.inference_mode():
            self.layer = layer.Layer(max_tokens)
            self.peer = adapters.load(peer)(self.layer)
        self.step = functools.lru_cache(maxsize=1)(self.layer.step)
        self._ours, self._clock = Blockmoe, functools.partial(clock.Clock, runs=runs)
        self.reader = None if reader is None else floor.Reader(reader)

    # What only measuring needs.
    @functools.cached_property
    def ours(self) -> Any:
        return self._ours(self.layer)

    @functools.cached_property
    def clock(self) -> Any:
        return self._clock()

    def ways(self, tokens: int, without: list[str]) -> dict[str, Callable[[], None]]:
        ways = {name: call for name, call in self.peer.candidates(self.step(tokens)).items() if name not in without}
        if not ways:
            raise NoneLeft(f"no way is left without {', '.join(without)}")
        return ways

    def compile(self, tokens: int, without: list[str]) -> dict[str, Any]:
        errors = {}
        for name, call in self.ways(tokens, without).items():
            self.trying(name)
            try:
                call()
                self.torch.cuda.synchronize()
            except Exception as error:  # noqa: BLE001: a compiler's too
                traceback.print_exc()
                self.torch.cuda.synchronize()  # raises where the process is lost
                errors[name] = first_line(error)
        return {"failed": errors}

    def measure(self, tokens: int, without: list[str]) -> dict[str, Any]:
        step = self.step(tokens)
        reference = self.layers.Reference(self.layer, step)
        calls = self.ways(tokens, without)
        ranking, medians, failed = self.clock.ranking(calls, self.trying)
        choice, graph, error = self.fastest_right({name: calls[name] for name in ranking}, reference, failed)
        ours: dict[str, Any] = {"path": "", "ours": None, "ours_error": ""}
        try:  # what of ours fails costs the peer nothing
            ours["path"], ours_call = next(iter(self.ours.candidates(step).items()))
            ours_graph = self.clock.capture(ours_call)
            self.checked(self.ours, ours_graph, reference)
        except Exception as failure:  # noqa: BLE001
            traceback.print_exc()
            self.torch.cuda.synchronize()  # raises where the process is lost
            ours["ours_error"] = first_line(failure)
            (peer,) = self.clock.take_turns([graph])
        else:
            own, peer = self.clock.take_turns([ours_graph, graph])
            ours["ours"] = dataclasses.asdict(own)
        read_us = None
        if self.reader is not None:
            read_us = self.reader.microseconds(self.layer.active_ranges(step), self.clock.warmup, self.clock.runs)
        return {
            "active_experts": len(step.active),
            "rows": step.rows,
            **ours,
            "read_us": read_us,
            "peer": dataclasses.asdict(peer),
            "relative_error": error,
            "choice": choice,
            "candidates": medians,
            "failed": failed,
        }

    def fastest_right(
        self, ranking: dict[str, Callable[[], None]], reference: Any, failed: dict[str, str]
    ) -> tuple[str, Any, float]:
        """The first way whose result holds; its graph and error. What is wrong before it is added to `failed`."""
        wrong = {}
        for name, call in ranking.items():
            self.trying(name)
            graph = self.clock.capture(call)
            try:
                error = self.checked(self.peer, graph, reference)
            except ValueError as found:
                wrong[name] = str(found)
                continue
            failed.update(wrong)
            return name, graph, error
        raise ValueError("; ".join(dict.fromkeys(wrong.values())))

    def checked(self, one: Any, graph: Any, reference: Any) -> float:
        """The error of what the graph wrote, which is what is timed: what was there before is spoiled."""
        one.spoil()
        self.torch.cuda.synchronize()  # that was on another stream
        self.clock.replay(graph)
        error = reference.error(one.result())
        if not error <= one.error_limit:
            raise ValueError(f"{one.title}: relative error {error:.3g}, at most {one.error_limit} expected")
        return float(error)

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        begin = time.monotonic()
        try:
            with self.torch.inference_mode():
                do = {"compile": self.compile, "measure": self.measure}[request["do"]]
                result = {"ok": True, **do(request["T"], request.get("without", []))}
        except Exception as error:  # noqa: BLE001: a peer may raise anything, and the run goes on
            traceback.print_exc()
            result = {"ok": False, "error": first_line(error), "lost": self.lost()}
            if isinstance(error, NoneLeft):
                result["none_left"] = True
        gc.collect()
        if not result.get("lost"):
            self.torch.cuda.empty_cache()  # the other processes need room too
        return {**result, "T": request["T"], "seconds": round(time.monotonic() - begin, 2)}

    def lost(self) -> bool:
        try:
            self.torch.cuda.synchronize()
        except Exception:  # noqa: BLE001
            return True
        return False


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--peer", required=True)
    options.add_argument("--max-tokens", type=int, required=True)
    options.add_argument("--reader", type=pathlib.Path)
    options.add_argument("--runs", type=int, default=30)
    given = options.parse_args()

    # Packages print as they like: the answers have a channel of their own.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def send(message: dict[str, Any]) -> None:
        print(json.dumps(message), file=answers, flush=True)

    try:
        worker = Worker(given.peer, given.max_tokens, given.reader, given.runs, lambda name: send({"trying": name}))
        versions = worker.peer.versions()
    except Exception as error:  # noqa: BLE001
        traceback.print_exc()
        send({"ok": False, "error": first_line(error)})
        return
    peer = worker.peer
    send({"ok": True, "title": peer.title, "part": peer.part, "takes": peer.takes, "versions": versions})
    for line in sys.stdin:
        send(worker.answer(json.loads(line)))


if __name__ == "__main__":
    main()
