#!/usr/bin/env python3
"""Compares blockmoe with every peer on one GPU (README.md): a process a peer, T by T in turn, ours and the floor in each.

    compare.py --bench bench.json --reader libblockmoe_reader.so [--peer NAME ...] --json comparison.json

Needs nothing but Python itself: what a peer needs is in its own environment, given by --python NAME=PROGRAM (an interpreter)
or by --site NAME=DIR (a folder of unpacked wheels in front of this interpreter's packages); --site DIR is for all.
A peer that can't run, or fails at some T, is in the JSON with the reason.
"""

import argparse
import concurrent.futures
import datetime
import json
import os
import pathlib
import queue
import statistics
import subprocess
import sys
import threading
import time
from typing import Any

HERE = pathlib.Path(__file__).resolve().parent
NAMES = (
    "deepgemm_products",
    "deepgemm_mega",
    "sglang_triton",
    "sglang_deepgemm",
    "flashinfer_cutlass",
    "vllm_triton",
    "blockmoe_portable",
)
# What compiles into a cache that its processes share, and how many of --compile-processes it takes: Triton's kernels are the
# most, the mega-MoE's are the longest and another one for every few hundred tokens.
COMPILED_AHEAD = {"deepgemm_products": 1, "deepgemm_mega": 3, "sglang_triton": 2, "sglang_deepgemm": 1, "vllm_triton": 1}
# Powers of two and the benchmark's shapes. Coarse ones first: a run that is cut short has a whole picture.
COARSE = (16, 901, 128, 4096, 1, 64, 512, 2048, 16384, 32, 256, 1024, 8192)
FINE = (2, 4, 7, 8, 14, 15, 52, 53, 54, 55, 56, 57, 58, 59, 62, 80, 11948, 14107)
TOKENS = COARSE + FINE
ROW_FLOPS = 6 * 7168 * 2048  # of the layer that layer.py makes
METHOD = (
    "one whole call as a CUDA graph; before each replay 256 MiB written, then 256 MiB of something else read; events around "
    "the replay; medians of {runs} after 3 warm-up. Each peer has a process of its own, in which its graph and ours take "
    "turns replay by replay; the floor is read there too. `us` is the median over the processes of ours; `peers` has each "
    "process's own. What a graph wrote is held to a reference in f32 before its time is taken."
)


class Process:
    """A worker.py and what it answers. A request that takes too long ends it."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Any) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=environment, text=True, bufsize=1
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def receive(self, seconds: float) -> dict[str, Any]:
        """An answer; one that the process did not live to give names what it was trying."""
        until = time.monotonic() + seconds
        trying: dict[str, Any] = {}
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                self.end()
                return {"ok": False, "error": f"no answer within {seconds:.0f} s", "lost": True, "hung": True, **trying}
            if line is None:
                code = self._process.wait()
                return {"ok": False, "error": f"its process ended with {code}", "lost": True, **trying}
            answer: dict[str, Any] = json.loads(line)
            if "ok" in answer:
                return {**answer, **trying} if answer.get("lost") else answer
            trying = answer

    def ask(self, request: dict[str, Any], seconds: float) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            print(json.dumps(request), file=self._process.stdin, flush=True)
        except (BrokenPipeError, ValueError):
            return {"ok": False, "error": "its process is gone", "lost": True}
        return self.receive(seconds)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


class Environments:
    """How a peer's worker is started."""

    def __init__(
        self, worker: pathlib.Path, sites: list[str], pythons: list[str], arguments: list[str], logs: pathlib.Path
    ) -> None:
        self._worker = worker
        self._common = [site for site in sites if "=" not in site]
        self._sites = [site.split("=", 1) for site in sites if "=" in site]
        self._pythons = dict(python.split("=", 1) for python in pythons)
        self._arguments, self._logs = arguments, logs

    def start(self, peer: str) -> Process:
        folders = [folder for name, folder in self._sites if name == peer] + self._common
        inherited = os.environ.get("PYTHONPATH")
        path = os.pathsep.join([*folders, *([inherited] if inherited else [])])
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
        command = [self._pythons.get(peer, sys.executable), str(self._worker), "--peer", peer, *self._arguments]
        with (self._logs / f"{peer}.log").open("a") as log:
            return Process(command, environment, log)


class Bar:
    """A line of progress on a terminal; elsewhere a line each."""

    def __init__(self, total: int) -> None:
        self._total, self._done, self._begin = total, 0, time.monotonic()

    def show(self, text: str, step: int = 1) -> None:
        self._done += step
        seconds = time.monotonic() - self._begin
        if sys.stderr.isatty():
            filled = 30 * self._done // max(1, self._total)
            print(
                f"\r\033[K[{'#' * filled}{'.' * (30 - filled)}] {seconds:4.0f} s  {text}", end="", file=sys.stderr, flush=True
            )
        else:
            print(f"[{seconds:4.0f} s] {self._done}/{self._total} {text}", file=sys.stderr, flush=True)

    def close(self) -> None:
        if sys.stderr.isatty():
            print(file=sys.stderr)


class Comparison:
    """What was measured so far, and the JSON of it."""

    def __init__(self, bench: dict[str, Any], command: str, commit: str, runs: int) -> None:
        self.bench, self.command, self.commit, self.runs = bench, command, commit, runs
        self.date = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        self.peers: dict[str, dict[str, Any]] = {}
        self.answers: dict[int, dict[str, dict[str, Any]]] = {}

    def about(self, peer: str, hello: dict[str, Any]) -> None:
        known = ("title", "part", "takes", "versions")
        self.peers[peer] = {k: hello[k] for k in known} if hello["ok"] else {"why_not": hello["error"]}

    def add(self, tokens: int, peer: str, answer: dict[str, Any]) -> None:
        self.answers.setdefault(tokens, {})[peer] = answer

    def row(self, tokens: int) -> dict[str, Any] | None:
        answers = {peer: answer for peer, answer in self.answers[tokens].items() if answer["ok"]}
        if not answers:
            return None
        some = next(iter(answers.values()))

        # Ours may have failed beside some peers, or beside all: 0 stands for what was not measured.
        own = [answer["ours"] for answer in answers.values() if answer["ours"] is not None]

        def ours(figure: str) -> float:
            return statistics.median(sample[figure] for sample in own) if own else 0.0

        reads = [answer["read_us"] for answer in answers.values() if answer["read_us"] is not None]
        read_us = statistics.median(reads) if reads else 0.0
        flops = ROW_FLOPS * some["rows"]
        rate = self.bench["ceilings"]["fp8_tflops"]
        floor_us = max(read_us, flops / rate * 1e-6 if rate else 0.0)
        us = ours("median")
        return {
            "T": tokens,
            "active_experts": some["active_experts"],
            "rows": some["rows"],
            "path": max(answer["path"] for answer in answers.values()),
            "floor_us": floor_us,
            "us": us,
            "us_p10": ours("p10"),
            "us_p90": ours("p90"),
            "ratio": us / floor_us if floor_us else 0.0,
            "tflops": flops / us * 1e-6 if us else 0.0,
            "peer_us": {peer: answer["peer"]["median"] for peer, answer in answers.items()},
            "read_us": read_us,
            "peers": {peer: peer_figures(answer) for peer, answer in answers.items()},
        }

    def json(self) -> dict[str, Any]:
        notes = list(self.bench.get("notes", []))
        for peer, about in self.peers.items():
            if "why_not" in about:
                notes.append(f"{peer} did not run: {about['why_not']}")
        for tokens in sorted(self.answers):
            for peer, answer in self.answers[tokens].items():
                if not answer["ok"]:
                    notes.append(f"{peer} failed at T = {tokens}: {answer['error']}")
                elif answer["ours"] is None:
                    notes.append(f"blockmoe failed beside {peer} at T = {tokens}: {answer['ours_error']}")
                for way, error in answer.get("failed", {}).items():
                    notes.append(f"{peer} at T = {tokens} without '{way}', which failed: {error}")
        rows = [row for tokens in sorted(self.answers) if (row := self.row(tokens)) is not None]
        return {
            "schema": 1,
            "machine": self.bench["machine"],
            "date": self.date,
            "commit": self.commit,
            "command": self.command,
            "profile": "model",
            "routing": "normal logits, 32 of 256 experts here, one draw whose first T rows are the call of T",
            "method": METHOD.format(runs=self.runs),
            "ceilings": self.bench["ceilings"],
            "void": self.bench.get("void", False),
            "notes": notes,
            "peers": self.peers,
            "rows": rows,
        }


def peer_figures(answer: dict[str, Any]) -> dict[str, Any]:
    figures = {
        "us": answer["peer"]["median"],
        "us_p10": answer["peer"]["p10"],
        "us_p90": answer["peer"]["p90"],
        "relative_error": answer["relative_error"],
        "choice": answer["choice"],
    }
    if answer["ours"] is not None:
        figures["ours_us"] = answer["ours"]["median"]
    if answer["read_us"] is not None:
        figures["read_us"] = answer["read_us"]
    if answer["candidates"]:
        figures["candidates_us"] = answer["candidates"]
    return figures


class Session:
    """A peer's process, started again after it was lost, without the way that took it along."""

    def __init__(self, environments: Environments, peer: str, limits: argparse.Namespace) -> None:
        self._environments, self._peer, self._limits = environments, peer, limits
        self._starts_left = 6
        self._taboo: dict[str, str] = {}  # ways that ended the process, and how
        self._process: Process | None = None
        self.hello = self._start()

    def _start(self) -> dict[str, Any]:
        self._starts_left -= 1
        self._process = self._environments.start(self._peer)
        hello = self._process.receive(self._limits.start_timeout)
        if not hello["ok"]:
            self.end()
        return hello

    def end(self) -> None:
        if self._process is not None:
            self._process.end()
        self._process = None

    def _ask(self, request: dict[str, Any], seconds: float) -> dict[str, Any]:
        if self._process is None:
            if self._starts_left == 0:
                return {"ok": False, "error": "its process was lost too often", "given_up": True}
            hello = self._start()
            if self._process is None:
                return {**hello, "given_up": True}
        answer = self._process.ask(request, seconds)
        if answer.get("lost"):
            self.end()
        return answer

    def ask(self, request: dict[str, Any], seconds: float) -> dict[str, Any]:
        """The answer, after as many tries as there are ways that end the process."""
        lost: dict[str, str] = {}
        without = list(self._taboo)
        while True:
            answer = self._ask({**request, "without": without}, seconds)
            if answer.get("none_left") and not lost and without:  # of this T; perhaps they do at this one
                without = []
                continue
            way = answer.get("trying")
            if not answer.get("lost") or way is None or way in lost:
                break
            lost[way] = self._taboo[way] = answer["error"]
            without = [*without, way]
            if answer.get("hung"):  # the time for this T is spent
                break
        if answer["ok"]:
            return {**answer, "failed": {**lost, **answer.get("failed", {})}}
        if lost and (answer.get("none_left") or answer.get("given_up")):
            answer["error"] = "; ".join(f"{way}: {error}" for way, error in lost.items())
        return answer


def start_and_compile(environments: Environments, peer: str, tokens: list[int], limits: argparse.Namespace) -> Session:
    """A peer's session, and everything that it compiles or loads at a first call behind it."""
    session = Session(environments, peer, limits)
    until = time.monotonic() + limits.compile_seconds / 2  # what compile_ahead left over
    for t in tokens if session.hello["ok"] and limits.compile_processes else []:
        left = until - time.monotonic()
        if left <= 0 or session.ask({"do": "compile", "T": t}, max(left, limits.timeout)).get("given_up"):
            break
    return session


def compile_ahead(environments: Environments, peers: list[str], tokens: list[int], limits: argparse.Namespace) -> None:
    """Fills the packages' caches of compiled kernels from several processes at once. What fails here fails again later, and is told then."""
    until = time.monotonic() + limits.compile_seconds

    def compile_share(peer: str, share: list[int]) -> None:
        session = Session(environments, peer, limits)
        for t in share if session.hello["ok"] else []:
            left = until - time.monotonic()
            if left <= 0 or session.ask({"do": "compile", "T": t}, left).get("given_up"):
                break
        session.end()

    # T that are close often want the same kernels: a process has neighbours, so that none is compiled twice.
    shares = []
    for peer in peers:
        count = min(len(tokens), limits.compile_processes * COMPILED_AHEAD[peer])
        ordered = sorted(tokens)
        shares += [(peer, ordered[len(tokens) * i // count : len(tokens) * (i + 1) // count]) for i in range(count)]
    with concurrent.futures.ThreadPoolExecutor(len(shares) or 1) as pool:
        list(pool.map(lambda pair: compile_share(*pair), shares))


def measure(
    environments: Environments,
    comparison: Comparison,
    peers: list[str],
    tokens: list[int],
    limits: argparse.Namespace,
    until: float,
    save: Any,
) -> None:
    bar = Bar(len(peers) * len(tokens))
    sessions = {}
    with concurrent.futures.ThreadPoolExecutor(len(peers)) as pool:
        started = pool.map(lambda peer: start_and_compile(environments, peer, tokens, limits), peers)
        for peer, session in zip(peers, started, strict=True):
            comparison.about(peer, session.hello)
            if session.hello["ok"]:
                sessions[peer] = session
            else:
                bar.show(f"{peer} does not run here: {session.hello['error']}", len(tokens))
    for t in tokens:
        for peer in list(sessions):
            if time.monotonic() >= until:
                comparison.bench.setdefault("notes", []).append(
                    f"the run was cut short at T = {t}: its {limits.budget:.0f} s were over"
                )
                break
            answer = sessions[peer].ask({"do": "measure", "T": t}, limits.timeout)
            comparison.add(t, peer, answer)
            if answer["ok"]:
                ours = answer["ours_error"] if answer["ours"] is None else f"{answer['ours']['median']:.1f} us"
                said = (
                    f"{answer['peer']['median']:.1f} us, ours {ours}, error {answer['relative_error']:.4f}, {answer['choice']}"
                )
            else:
                said = answer["error"]
            bar.show(f"T = {t}, {peer}: {said}")
            if answer.get("given_up"):
                sessions.pop(peer)
        else:
            save(comparison.json())
            continue
        break
    bar.close()
    for session in sessions.values():
        session.end()
    save(comparison.json())


def parse(arguments: list[str] | None) -> argparse.Namespace:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--peer", action="append", choices=NAMES, help="repeatable; all by default")
    options.add_argument("--tokens", type=int, action="append", help="repeatable; 1 to 16384 by default")
    options.add_argument(
        "--bench", type=pathlib.Path, required=True, help="what `blockmoe bench --json` wrote in the same session"
    )
    options.add_argument("--reader", type=pathlib.Path, help="libblockmoe_reader.so, for the floors")
    options.add_argument("--site", action="append", default=[], metavar="[NAME=]DIR")
    options.add_argument("--python", action="append", default=[], metavar="NAME=PROGRAM")
    options.add_argument("--json", type=pathlib.Path, required=True)
    options.add_argument("--logs", type=pathlib.Path, help="folder for what the peers print; that of --json by default")
    options.add_argument("--runs", type=int, default=30)
    options.add_argument("--compile-processes", type=int, default=4, help="a peer that compiles, before anything is timed")
    options.add_argument("--compile-seconds", type=float, default=600)
    options.add_argument("--start-timeout", type=float, default=300)
    options.add_argument("--timeout", type=float, default=300, help="seconds for one peer at one T")
    options.add_argument(
        "--budget", type=float, default=float("inf"), help="seconds for the whole run; what is not measured by then is left out"
    )
    options.add_argument("--commit", default="")
    options.add_argument("--worker", type=pathlib.Path, default=HERE / "worker.py", help=argparse.SUPPRESS)
    return options.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    given = parse(arguments)
    peers, tokens = given.peer or list(NAMES), given.tokens or list(TOKENS)
    logs = given.logs or given.json.parent
    logs.mkdir(parents=True, exist_ok=True)
    worker = ["--max-tokens", str(max(tokens)), "--runs", str(given.runs)]
    worker += ["--reader", str(given.reader)] if given.reader else []
    environments = Environments(given.worker, given.site, given.python, worker, logs)
    said = " ".join(f"--peer {peer}" for peer in given.peer or []) + "".join(f" --tokens {t}" for t in given.tokens or [])
    command = f"bench/peers/compare.py {said}".strip()
    comparison = Comparison(json.loads(given.bench.read_text()), command, given.commit, given.runs)

    def save(made: dict[str, Any]) -> None:
        given.json.write_text(json.dumps(made, indent=1) + "\n")

    begin = time.monotonic()
    compiling = [peer for peer in peers if peer in COMPILED_AHEAD]
    if given.compile_processes and compiling:
        compile_ahead(environments, compiling, tokens, given)
        print(f"compiled ahead in {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)
    measure(environments, comparison, peers, tokens, given, begin + given.budget, save)


if __name__ == "__main__":
    main()
