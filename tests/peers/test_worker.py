"""A peer's process, without its GPU: which way is timed, and what a failure of ours costs."""

import dataclasses
import functools
import pathlib
import sys
import types
import unittest
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench/peers"))

import worker  # noqa: E402: found beside the sources

Sample = dataclasses.make_dataclass("Sample", ["median"])


class Clock:
    """Graphs are the calls themselves; a way's time is the number behind its name."""

    warmup, runs = 3, 30

    def ranking(self, calls: dict, trying: Any) -> tuple[list[str], dict, dict]:
        medians = {name: float(name.split()[1]) for name in calls}
        return sorted(medians, key=medians.__getitem__), medians, {}

    def capture(self, call: Any) -> Any:
        return call

    def replay(self, graph: Any) -> None:
        graph()

    def take_turns(self, graphs: list) -> list:
        return [Sample(float(i)) for i in range(len(graphs))]


class One:
    """An implementation whose ways leave the errors that they are given."""

    title, error_limit, output = "One", 0.03, None

    def __init__(self, **errors: float) -> None:
        self.errors = {name.replace("_", " "): error for name, error in errors.items()}

    def candidates(self, step: Any) -> dict:
        def call(name: str) -> None:
            self.output = self.errors[name]

        return {name: functools.partial(call, name) for name in self.errors}

    def spoil(self) -> None:
        self.output = float("nan")

    def result(self) -> float:
        return self.output


class Working(unittest.TestCase):
    def measure(self, ours: One, peer: One) -> dict:
        made = worker.Worker.__new__(worker.Worker)
        made.torch = types.SimpleNamespace(cuda=types.SimpleNamespace(synchronize=lambda: None))
        made.layers = types.SimpleNamespace(Reference=lambda layer, step: types.SimpleNamespace(error=lambda output: output))
        made.layer, made.peer, made.reader, made.trying = None, peer, None, lambda name: None
        made.ours, made.clock = ours, Clock()
        made.step = lambda tokens: types.SimpleNamespace(active=[0, 1], rows=5)
        return made.measure(16, [])

    def test_the_fastest_way_is_timed(self) -> None:
        made = self.measure(One(hopper_1=0.02), One(slow_9=0.023, fast_4=0.022))
        self.assertEqual((made["choice"], made["relative_error"], made["failed"]), ("fast 4", 0.022, {}))
        self.assertEqual(made["candidates"], {"slow 9": 9.0, "fast 4": 4.0})
        self.assertEqual((made["path"], made["ours"]), ("hopper 1", {"median": 0.0}))

    def test_a_fast_way_that_is_wrong_is_not_taken(self) -> None:
        made = self.measure(One(hopper_1=0.02), One(slow_9=0.023, fast_4=0.5))
        self.assertEqual(made["choice"], "slow 9")
        self.assertEqual(made["failed"], {"fast 4": "One: relative error 0.5, at most 0.03 expected"})

    def test_a_result_that_no_call_wrote_is_wrong(self) -> None:
        peer = One(way_4=0.02)
        peer.candidates = lambda step: {"way 4": lambda: None}
        with self.assertRaisesRegex(ValueError, "relative error nan"):
            self.measure(One(hopper_1=0.02), peer)

    def test_all_ways_wrong_is_an_error(self) -> None:
        with self.assertRaisesRegex(ValueError, "One: relative error 0.5, at most 0.03 expected; One: relative error inf"):
            self.measure(One(hopper_1=0.02), One(slow_9=float("inf"), fast_4=0.5))

    def test_where_ours_is_wrong_the_peer_is_timed_alone(self) -> None:
        made = self.measure(One(hopper_1=0.06), One(way_4=0.02))
        self.assertEqual((made["ours"], made["peer"]), (None, {"median": 0.0}))
        self.assertEqual(made["ours_error"], "ValueError: One: relative error 0.06, at most 0.03 expected")


if __name__ == "__main__":
    unittest.main()
