"""tools/runner_agreement.py: two findings of one shape, side by side."""

import json
import pathlib
import subprocess
import sys

import pytest

TOOL = pathlib.Path(__file__).resolve().parents[2] / "tools/runner_agreement.py"


def verified(uuid="a", tokens=1, ratio=0.954, passed=True, rows=3):
    return {"uuid": uuid, "T": tokens, "passed": passed, "agent": {"rows": rows, "comparison": {"matched_ratio": ratio}}}


def trace(uuid="a", solution="ours", ratio=0.95, status="PASSED"):
    evaluation = {"status": status, "correctness": {"extra": {"matched_ratio": ratio}}, "performance": {"latency_ms": 0.05}}
    return {"workload": {"uuid": uuid}, "solution": solution, "evaluation": evaluation}


def compared(folder, traces, results):
    (folder / "traces.jsonl").write_text("".join(json.dumps(trace) + "\n" for trace in traces))
    (folder / "verify.json").write_text(json.dumps({"results": results}))
    command = [sys.executable, str(TOOL), str(folder / "traces.jsonl"), str(folder / "verify.json")]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_a_line_a_shape(tmp_path):
    traces = [trace(uuid, name) for uuid in "ab" for name in ("x", "y")]
    ended = compared(tmp_path, traces, [verified("a"), verified("b", tokens=7)])
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == [
        "| uuid | T | verify | x | x, us | y | y, us |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| a | 1 | 0.9540 | 0.9500 | 50 | 0.9500 | 50 |",
        "| b | 7 | 0.9540 | 0.9500 | 50 | 0.9500 | 50 |",
        "",
        "4 of 4 passed",
    ]


# What the runner found, what `verify` found, what is wrong with the two.
FAULTS = {
    "failed": ([trace(status="INCORRECT_NUMERICAL")], verified(), "a: ours: INCORRECT_NUMERICAL"),
    "not compared": ([trace() | {"evaluation": {"status": "TIMEOUT"}}], verified(), "a: ours: TIMEOUT"),
    "missing": ([trace("b")], verified(), "a: ours: not run"),
    "far apart": ([trace(ratio=0.92)], verified(), "a: ours: matched ratio 0.9200, verify's is 0.9540"),
    "apart where many rows leave no room": (
        [trace(ratio=0.95)],
        verified(rows=14118),
        "a: ours: matched ratio 0.9500, verify's is 0.9540",
    ),
    "verify failed": ([trace()], verified(passed=False), "a: verify: not passed"),
    "nothing ran": ([], verified(), "the runner ran nothing"),
}


@pytest.mark.parametrize(("traces", "result", "fault"), FAULTS.values(), ids=FAULTS)
def test_a_shape_on_which_they_differ_is_a_fault(tmp_path, traces, result, fault):
    ended = compared(tmp_path, traces, [result])
    assert ended.returncode == 1
    assert ended.stderr.splitlines() == [fault]
