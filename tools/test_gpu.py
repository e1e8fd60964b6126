#!/usr/bin/env python3
"""Runs the GPU tests and records what came of them: all tests, those on small geometries under each tool of
compute-sanitizer, and all but the longest once more in a build that checks every index.

Usage: test_gpu.py available             exit 0 where GPU tests can run; else says why not, and exit 1
       test_gpu.py run --build DIR --checked DIR --record FILE [--commit C] [--sources HASH]
                       [--sanitizer PROGRAM] [--skip-sanitizer REASON]
       test_gpu.py check --record FILE   says whether the record vouches for these sources; exit 1 where it does not
       test_gpu.py hash                  of these sources

The record holds a hash of kernels/, src/ and tests/gpu, so that `check` knows whether it speaks of the present code. `run`
with --sources takes the hash as given, for a machine that has the programs and not the sources.
"""

import argparse
import concurrent.futures
import datetime
import hashlib
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
HASHED = ("kernels", "src", "tests/gpu")
TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
ALL_TESTS = "*"
# Small geometries: a sanitizer slows a kernel down a hundredfold.
SANITIZED_TESTS = "*Sanitized*"
# Not what asks for 20 GiB, for minutes, or for nothing but speed: no index is in it that the others don't have.
CHECKED_TESTS = "*-OffsetsTest.*:RouteTest.ten_million_*:GraphTest.a_thousand_*:HopperSilu.*"

# Exit codes that no program of ours ends with by itself.
FAULT_FOUND = 86  # asked of compute-sanitizer
TRAPPED = 87  # blockmoe_planted_faults, when a kernel stopped at a check

# {suite: {test: seconds, or "failed" or "skipped"}}
Suites = dict[str, dict[str, float | str]]


class NoGpu(Exception):
    """Why GPU tests can't run here."""


def gpu_here() -> str:
    """Name and driver, as "NVIDIA H200, 580.159.04"."""
    program = shutil.which("nvidia-smi")
    if program is None:
        raise NoGpu("no GPU here: nvidia-smi is not there")
    query = [program, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    asked = subprocess.run(query, capture_output=True, text=True, check=False)
    said = (asked.stdout + asked.stderr).strip().splitlines()
    if asked.returncode != 0 or not asked.stdout.strip():
        raise NoGpu(f"no GPU here: nvidia-smi: {said[0] if said else 'lists none'}")
    return said[0]


def sources_hash() -> str:
    digest = hashlib.sha256()
    for folder in HASHED:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


# ---- tests


def outcome(test: dict) -> float | str:
    if test.get("failures"):
        return "failed"
    return float(test["time"].rstrip("s")) if test["result"] == "COMPLETED" else "skipped"


def run_tests(programs: list[pathlib.Path], chosen: str) -> Suites:
    suites: Suites = {}
    for program in programs:
        with tempfile.TemporaryDirectory() as folder:
            report = pathlib.Path(folder) / "report.json"
            command = [program, f"--gtest_filter={chosen}", f"--gtest_output=json:{report}"]
            ended = subprocess.run(command, capture_output=True, text=True, check=False)
            of_program = json.loads(report.read_text())["testsuites"] if report.exists() else []
        for suite in of_program:
            suites[suite["name"]] = {test["name"]: outcome(test) for test in suite["testsuite"]}
        # A program that died has told nothing of its tests.
        if ended.returncode != 0 and not any(suite["failures"] for suite in of_program):
            suites[program.name] = {f"ended with {ended.returncode}": "failed"}
        enough = 1000 if ended.returncode == 0 else 6000
        print(ended.stdout[-enough:] + ended.stderr[-2000:])
    return suites


def counts(suites: Suites) -> dict[str, int]:
    outcomes = [became for tests in suites.values() for became in tests.values()]
    failed, skipped = outcomes.count("failed"), outcomes.count("skipped")
    return {"passed": len(outcomes) - failed - skipped, "failed": failed, "skipped": skipped}


# ---- sanitizers and checks


def finds_fault(sanitizer: str, tool: str, command: list) -> tuple[bool, str]:
    """Whether the tool found something, and all that it and the program said."""
    under_tool = [sanitizer, "--tool", tool, "--error-exitcode", str(FAULT_FOUND), *command]
    ended = subprocess.run(under_tool, capture_output=True, text=True, check=False)
    output = ended.stdout + ended.stderr
    if ended.returncode not in (0, FAULT_FOUND):
        print(output[-4000:])
        raise SystemExit(f"{tool}: {command[0]} ended with {ended.returncode}")
    return ended.returncode == FAULT_FOUND, output


def sanitize(sanitizer: str, tool: str, tests: pathlib.Path, faults: pathlib.Path) -> dict:
    start = time.monotonic()
    planted, _ = finds_fault(sanitizer, tool, [faults, tool])
    found, output = finds_fault(sanitizer, tool, [tests, f"--gtest_filter={SANITIZED_TESTS}"])
    if found:
        print(output[-4000:])
    return {
        "clean": not found,
        "finds the planted fault": planted,
        "seconds": round(time.monotonic() - start, 1),
    }


def run_checked(build: pathlib.Path) -> dict:
    start = time.monotonic()
    suites = run_tests(test_programs(build), CHECKED_TESTS)
    planted = subprocess.run([planted_faults(build), "index"], capture_output=True, text=True, check=False)
    print(planted.stdout + planted.stderr)
    return {
        "tests": counts(suites),
        "traps on the planted index": planted.returncode == TRAPPED,
        "seconds": round(time.monotonic() - start, 1),
    }


# ---- the record


def test_programs(build: pathlib.Path) -> list[pathlib.Path]:
    return [build / "bin" / "blockmoe_gpu_tests", build / "bin" / "blockmoe_hopper_tests"]


def planted_faults(build: pathlib.Path) -> pathlib.Path:
    return build / "bin" / "blockmoe_planted_faults"


def faults_of_tests(what: str, tests: dict) -> list[str]:
    """Of a part's counts; a record may lack any of them."""
    found = [] if tests.get("passed", 0) > 0 else [f"{what}: none passed"]
    return found + [f"{what}: {tests.get(word)} {word}" for word in ("failed", "skipped") if tests.get(word) != 0]


def faults(record: dict) -> list[str]:
    """What a record lacks to vouch for the sources that it names."""
    found = faults_of_tests("tests", record.get("tests", {}))
    for tool in TOOLS:
        said = record.get("sanitizer", {}).get(tool, {})
        if said.get("clean") is not True:
            found.append(f"{tool}: not clean" if said else f"{tool}: not run")
        elif said.get("finds the planted fault") is not True:
            found.append(f"{tool}: does not find its planted fault")
    checked = record.get("checked", {})
    found += faults_of_tests("tests of the checked build", checked.get("tests", {}))
    if checked.get("traps on the planted index") is not True:
        found.append("checked build: does not trap on the planted index")
    return found


def run(options: argparse.Namespace) -> int:
    gpu = gpu_here()
    if not options.skip_sanitizer and shutil.which(options.sanitizer) is None:
        raise SystemExit(
            f"{options.sanitizer} is not there: it is in the bin folder of a CUDA toolkit; --sanitizer names it,"
            " --skip-sanitizer REASON does without"
        )
    start = time.monotonic()
    # Nothing here is timed, and each part leaves most of a GPU idle: side by side.
    with concurrent.futures.ThreadPoolExecutor() as pool:
        parts = [pool.submit(run_tests, [program], ALL_TESTS) for program in test_programs(options.build)]
        checked = pool.submit(run_checked, options.checked) if options.checked else None
        tool_runs = {}
        if not options.skip_sanitizer:
            programs = (test_programs(options.build)[0], planted_faults(options.build))
            tool_runs = {tool: pool.submit(sanitize, options.sanitizer, tool, *programs) for tool in TOOLS}
    suites = {name: suite for part in parts for name, suite in part.result().items()}
    tests = counts(suites)
    if tests["passed"] == tests["failed"] == 0:
        raise NoGpu(f"every test skipped itself on {gpu}: see above")
    record = {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "commit": options.commit,
        "gpu": gpu,
        "sources": options.sources or sources_hash(),
        "tests": tests,
    }
    if checked:
        record["checked"] = checked.result()
    record["sanitizer"] = {tool: tool_run.result() for tool, tool_run in tool_runs.items()}
    if options.skip_sanitizer:
        record["sanitizer"] = {"not run": options.skip_sanitizer}
    record["seconds"] = round(time.monotonic() - start, 1)
    print(json.dumps(record, indent=2))
    record["suites"] = suites
    options.record.write_text(json.dumps(record, indent=2) + "\n")
    found = faults(record)
    print("\n".join(found))
    return 1 if found else 0


def check(options: argparse.Namespace) -> int:
    if not options.record.exists():
        print(
            f"GPU TESTS HAVE NO RECORD: {options.record} is not there;"
            " `make test-gpu` on a machine with a GPU writes it"
        )
        return 1
    record = json.loads(options.record.read_text())
    if record["sources"] != sources_hash():
        print(
            f"THE RECORD OF THE GPU TESTS IS STALE: {options.record} is of sources {record['sources']}"
            f" ({record['date']}, {record['gpu']}), these are {sources_hash()};"
            " `make test-gpu` on a machine with a GPU renews it"
        )
        return 1
    found = faults(record)
    if found:
        print(f"THE RECORD OF THE GPU TESTS IS NOT GOOD ENOUGH: {options.record}: {'; '.join(found)}")
        return 1
    print(f"GPU tests: {record['tests']['passed']} passed, none failed on {record['gpu']}, {record['date']}")
    return 0


def available(_: argparse.Namespace) -> int:
    gpu_here()
    return 0


def print_hash(_: argparse.Namespace) -> int:
    print(sources_hash())
    return 0


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(required=True)
    runs = actions.add_parser("run")
    runs.add_argument("--build", type=pathlib.Path, required=True)
    runs.add_argument("--checked", type=pathlib.Path, help="the build with BLOCKMOE_CHECKED")
    runs.add_argument("--record", type=pathlib.Path, required=True)
    runs.add_argument("--commit", default="")
    runs.add_argument("--sources", default="")
    runs.add_argument("--sanitizer", default="compute-sanitizer")
    runs.add_argument("--skip-sanitizer", default="", metavar="REASON")
    checks = actions.add_parser("check")
    checks.add_argument("--record", type=pathlib.Path, required=True)
    for name, action in (("available", available), ("hash", print_hash)):
        actions.add_parser(name).set_defaults(action=action)
    runs.set_defaults(action=run)
    checks.set_defaults(action=check)
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    try:
        return options.action(options)
    except NoGpu as reason:
        print(f"SKIPPED: {reason}")
        return 1 if options.action is available else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
