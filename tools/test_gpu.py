#!/usr/bin/env python3
"""Runs the GPU tests, and compute-sanitizer over those on small geometries, and records the result.

Usage: test_gpu.py run --build DIR --record FILE [--commit C] [--sanitizer PROGRAM] [--skip-sanitizer REASON]
       test_gpu.py check --record FILE      says whether the record fits the sources; exit 1 where it does not

The record holds a hash of kernels/, src/ and tests/gpu, so that `check` knows whether it speaks of the present code. `run` with
--sources HASH takes the hash as given, for a machine that has the programs and not the sources.
"""

import argparse
import datetime
import hashlib
import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
HASHED = ("kernels", "src", "tests/gpu")
TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
# Small geometries: a sanitizer slows a kernel down a hundredfold.
SANITIZED_TESTS = "*Sanitized*"
FAULT_FOUND = 86  # the exit code asked of compute-sanitizer; no program of ours ends with it


def sources_hash() -> str:
    digest = hashlib.sha256()
    for folder in HASHED:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def counts(output: str) -> dict[str, int]:
    found = {}
    for word in ("PASSED", "FAILED", "SKIPPED"):
        match = re.search(rf"\[  {word}\s*\] (\d+) tests?", output)
        found[word.lower()] = int(match.group(1)) if match else 0
    return found


def gpu_name() -> str:
    asked = subprocess.run(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"], capture_output=True, text=True, check=False)
    return asked.stdout.strip().splitlines()[0] if asked.returncode == 0 else "no GPU"


def sanitize(sanitizer: str, tool: str, command: list[str]) -> bool:
    """Whether the tool found nothing."""
    # initcheck looks at every allocation of a context; leaks of the driver's own are not ours.
    ended = subprocess.run([sanitizer, "--tool", tool, "--error-exitcode", str(FAULT_FOUND), *command], capture_output=True, text=True, check=False)
    if ended.returncode not in (0, FAULT_FOUND):
        print(ended.stdout[-2000:] + ended.stderr[-2000:])
        raise SystemExit(f"{tool}: the program ended with {ended.returncode}")
    if ended.returncode == FAULT_FOUND and "planted_faults" not in command[0]:
        print(ended.stdout[-4000:])
    return ended.returncode == 0


def run(options: argparse.Namespace) -> int:
    tests = options.build / "bin" / "blockmoe_gpu_tests"
    programs = [tests, options.build / "bin" / "blockmoe_hopper_tests"]
    faults = options.build / "bin" / "blockmoe_planted_faults"
    totals = {"passed": 0, "failed": 0, "skipped": 0}
    failed = False
    for program in programs:
        ended = subprocess.run([program], capture_output=True, text=True, check=False)
        print(ended.stdout[-3000:])
        failed = failed or ended.returncode != 0
        for word, count in counts(ended.stdout).items():
            totals[word] += count
    record = {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "commit": options.commit,
        "gpu": gpu_name(),
        "sources": options.sources or sources_hash(),
        "tests": totals,
        "sanitizer": {},
    }
    failed = failed or totals["passed"] == 0
    if options.skip_sanitizer:
        record["sanitizer"] = {"not run": options.skip_sanitizer}
    else:
        for tool in TOOLS:
            finds_fault = not sanitize(options.sanitizer, tool, [str(faults), tool])
            clean = sanitize(options.sanitizer, tool, [str(tests), f"--gtest_filter={SANITIZED_TESTS}"])
            record["sanitizer"][tool] = {"clean": clean, "finds the planted fault": finds_fault}
            failed = failed or not clean or not finds_fault
    print(json.dumps(record, indent=2))
    options.record.write_text(json.dumps(record, indent=2) + "\n")
    return 1 if failed else 0


def check(options: argparse.Namespace) -> int:
    if not options.record.exists():
        print(f"GPU TESTS HAVE NO RECORD: {options.record} is not there; `make test-gpu` on a machine with a GPU writes it")
        return 1
    record = json.loads(options.record.read_text())
    if record["sources"] != sources_hash():
        print(
            f"THE RECORD OF THE GPU TESTS IS STALE: {options.record} is of sources {record['sources']} ({record['date']}, {record['gpu']}),"
            f" these are {sources_hash()}; `make test-gpu` on a machine with a GPU renews it"
        )
        return 1
    print(f"GPU tests: {record['tests']['passed']} passed, {record['tests']['failed']} failed on {record['gpu']}, {record['date']}")
    return 1 if record["tests"]["failed"] else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(required=True)
    runs = actions.add_parser("run")
    runs.add_argument("--build", type=pathlib.Path, required=True)
    runs.add_argument("--record", type=pathlib.Path, required=True)
    runs.add_argument("--commit", default="")
    runs.add_argument("--sources", default="")
    runs.add_argument("--sanitizer", default="compute-sanitizer")
    runs.add_argument("--skip-sanitizer", default="", metavar="REASON")
    runs.set_defaults(action=run)
    checks = actions.add_parser("check")
    checks.add_argument("--record", type=pathlib.Path, required=True)
    checks.set_defaults(action=check)
    hashes = actions.add_parser("hash")
    hashes.set_defaults(action=lambda _: print(sources_hash()) or 0)
    options = parser.parse_args()
    return options.action(options)


if __name__ == "__main__":
    sys.exit(main())
