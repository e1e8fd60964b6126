#!/usr/bin/env python3
"""Lays what flashinfer-bench's runner found beside what `blockmoe verify` found: runner_agreement.py TRACES VERIFY_JSON

TRACES is the runner's JSONL file, VERIFY_JSON what `verify --dump-json` wrote; prints a Markdown table, a line a shape. Each draws
weights and activations of its own, so the matched ratios of a shape are two samples of one number. Fails where a shape is missing,
where either did not pass it, or where the ratios differ by more than chance explains.
"""

import json
import math
import pathlib
import sys

# Of a row's values 0.95 match, give or take this from row to row: 0.002 of a row with one local pick, 0.004 of one with three.
ROW_DEVIATION = 0.004
# What the oracles' precision, and the runner's taking the worst of its trials, may add.
ALLOWANCE = 0.0015


def tolerance(rows: int) -> float:
    """Largest difference of two matched ratios over that many rows: four deviations."""
    return ALLOWANCE + 4 * math.sqrt(2 / max(rows, 1)) * ROW_DEVIATION


def matched(evaluation: dict) -> float:
    """NaN where the runner did not get so far as to compare."""
    extra = (evaluation.get("correctness") or {}).get("extra") or {}
    return extra.get("matched_ratio", math.nan)


def latency_us(evaluation: dict) -> str:
    performance = evaluation.get("performance")
    return f"{1000 * performance['latency_ms']:.0f}" if performance else "-"


def line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def compare(traces: list[dict], verified: dict) -> tuple[list[str], list[str]]:
    """The table's lines, and the faults."""
    solutions = sorted({trace["solution"] for trace in traces})
    of_shape = {(trace["workload"]["uuid"], trace["solution"]): trace["evaluation"] for trace in traces}
    heads = [f"{name}{what}" for name in solutions for what in ("", ", us")]
    table = [line("uuid", "T", "verify", *heads), line("---", *["---:"] * (2 + len(heads)))]
    faults = [] if solutions else ["the runner ran nothing"]
    for result in verified["results"]:
        uuid, tokens = result["uuid"], result["T"]
        ours = result["agent"]["comparison"]["matched_ratio"]
        cells = []
        if not result["passed"]:
            faults.append(f"{uuid}: verify: not passed")
        for name in solutions:
            evaluation = of_shape.get((uuid, name), {})
            theirs = matched(evaluation)
            cells += [f"{theirs:.4f}", latency_us(evaluation)]
            if evaluation.get("status") != "PASSED":
                faults.append(f"{uuid}: {name}: {evaluation.get('status', 'not run')}")
            elif not abs(theirs - ours) <= tolerance(result["agent"]["rows"]):
                faults.append(f"{uuid}: {name}: matched ratio {theirs:.4f}, verify's is {ours:.4f}")
        table.append(line(uuid, str(tokens), f"{ours:.4f}", *cells))
    return table, faults


def main() -> int:
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    traces = [json.loads(text) for text in pathlib.Path(sys.argv[1]).read_text().splitlines()]
    table, faults = compare(traces, json.loads(pathlib.Path(sys.argv[2]).read_text()))
    print("\n".join(table))
    passed = sum(trace["evaluation"]["status"] == "PASSED" for trace in traces)
    print(f"\n{passed} of {len(traces)} passed")
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
