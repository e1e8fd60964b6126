"""What tools/test_gpu.py records, and which records it takes for good. Scripts stand in for all that it runs."""

import contextlib
import copy
import io
import json
import os
import pathlib
import sys
import tempfile
import unittest
from unittest import mock

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import test_gpu  # noqa: E402

GOOD = {
    "date": "2026-11-22T20:25:26Z",
    "gpu": "a GPU",
    "sources": test_gpu.sources_hash(),
    "tests": {"passed": 3, "failed": 0, "skipped": 0},
    "checked": {"tests": {"passed": 2, "failed": 0, "skipped": 0}, "traps on the planted index": True},
    "sanitizer": {tool: {"clean": True, "finds the planted fault": True} for tool in test_gpu.TOOLS},
}

# Finds what is planted and nothing else.
SANITIZER = 'case "$*" in *planted_faults*) exit 86;; esac'


def tests_program(suite, name, outcome):
    """A script that writes the report of a GoogleTest program with one test."""
    test = {"name": name, "result": "SKIPPED" if outcome == "skipped" else "COMPLETED", "time": "1.5s"}
    if outcome == "failed":
        test["failures"] = [{"failure": "no"}]
    report = {"testsuites": [{"name": suite, "failures": int(outcome == "failed"), "testsuite": [test]}]}
    write = f"case $a in --gtest_output=json:*) echo '{json.dumps(report)}' > \"${{a#*:}}\";; esac"
    return f'for a in "$@"; do {write}; done; exit {int(outcome == "failed")}'


class GpuRecord(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="blockmoe-gpu-record-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.record = self.folder / "record.json"
        path = mock.patch.dict(os.environ, {"PATH": str(self.folder)})
        path.start()
        self.addCleanup(path.stop)

    def program(self, name, body):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    def machine(self, outcome="passed"):
        """A machine with a GPU, a sanitizer, and both builds, whose tests end so."""
        self.program("nvidia-smi", "echo a GPU, 1.0")
        self.program("compute-sanitizer", SANITIZER)
        for build in ("build", "checked"):
            ten_million = tests_program("RouteTest", "ten_million_rows", outcome)
            self.program(f"{build}/bin/blockmoe_gpu_tests", ten_million)
            products = tests_program("HopperProducts", "every_row_count", outcome)
            self.program(f"{build}/bin/blockmoe_hopper_tests", products)
            self.program(f"{build}/bin/blockmoe_planted_faults", "exit 87")

    def tool(self, *arguments):
        """Exit code and standard output."""
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            code = test_gpu.main([str(argument) for argument in arguments])
        return code, output.getvalue()

    def run_tool(self):
        builds = ("--build", self.folder / "build", "--checked", self.folder / "checked")
        return self.tool("run", *builds, "--record", self.record)

    def check(self, record):
        self.record.write_text(json.dumps(record))
        return self.tool("check", "--record", self.record)

    def test_a_good_record_is_accepted(self):
        self.assertEqual(self.check(GOOD)[0], 0)

    def test_a_record_of_other_sources_or_none_is_refused(self):
        self.assertIn("NO RECORD", self.tool("check", "--record", self.record)[1])
        code, output = self.check(GOOD | {"sources": "0123456789abcdef"})
        self.assertEqual(code, 1)
        self.assertIn("STALE", output)

    def test_a_record_that_lacks_anything_is_refused_by_its_name(self):
        cases = [
            (("tests", "passed"), 0, "tests: none passed"),
            (("tests", "failed"), 1, "tests: 1 failed"),
            (("tests", "skipped"), 3, "tests: 3 skipped"),
            (("tests",), {}, "tests: none passed"),
            (("checked", "tests", "passed"), 0, "tests of the checked build: none passed"),
            (("checked", "tests", "failed"), 2, "tests of the checked build: 2 failed"),
            (("checked", "traps on the planted index"), False, "does not trap on the planted index"),
            (("checked",), {}, "tests of the checked build: none passed"),
            (("sanitizer",), {"not run": "no time"}, "racecheck: not run"),
        ]
        for tool in test_gpu.TOOLS:
            cases.append((("sanitizer", tool, "clean"), False, f"{tool}: not clean"))
            cases.append((("sanitizer", tool, "finds the planted fault"), False, f"{tool}: does not find"))
            cases.append((("sanitizer", tool), {}, f"{tool}: not run"))
        for path, value, says in cases:
            with self.subTest(says):
                record = copy.deepcopy(GOOD)
                inner = record
                for key in path[:-1]:
                    inner = inner[key]
                inner[path[-1]] = value
                code, output = self.check(record)
                self.assertEqual(code, 1)
                self.assertIn(says, output)

    def test_a_whole_run_leaves_a_record_that_is_good_and_names_its_tests(self):
        self.machine()
        code, output = self.run_tool()
        self.assertEqual(code, 0, output)
        record = json.loads(self.record.read_text())
        self.assertEqual(record["tests"], {"passed": 2, "failed": 0, "skipped": 0})
        self.assertEqual(
            record["suites"], {"RouteTest": {"ten_million_rows": 1.5}, "HopperProducts": {"every_row_count": 1.5}}
        )
        self.assertGreaterEqual(record["seconds"], 0)
        self.assertEqual(record["gpu"], "a GPU, 1.0")
        self.assertEqual(self.tool("check", "--record", self.record)[0], 0)

    def test_a_failed_test_fails_the_run(self):
        self.machine(outcome="failed")
        code, output = self.run_tool()
        self.assertEqual(code, 1)
        self.assertIn("tests: 2 failed", output)
        self.assertEqual(json.loads(self.record.read_text())["suites"]["RouteTest"], {"ten_million_rows": "failed"})

    def test_a_program_that_dies_fails_the_run(self):
        self.machine()
        self.program("build/bin/blockmoe_hopper_tests", "kill -ABRT $$")
        code, output = self.run_tool()
        self.assertEqual(code, 1)
        self.assertIn("tests: 1 failed", output)

    def test_a_sanitizer_that_finds_nothing_fails_the_run(self):
        self.machine()
        self.program("compute-sanitizer", "")
        code, output = self.run_tool()
        self.assertEqual(code, 1)
        self.assertIn("memcheck: does not find its planted fault", output)

    def test_a_checked_build_that_does_not_trap_fails_the_run(self):
        self.machine()
        self.program("checked/bin/blockmoe_planted_faults", "")
        code, output = self.run_tool()
        self.assertEqual(code, 1)
        self.assertIn("does not trap on the planted index", output)

    def test_without_a_gpu_the_run_is_skipped_and_the_record_stays(self):
        self.record.write_text("as it was")
        for reason in ("nvidia-smi is not there", "nvidia-smi: it failed"):
            with self.subTest(reason):
                code, output = self.run_tool()
                self.assertEqual((code, output), (0, f"SKIPPED: no GPU here: {reason}\n"))
                self.assertEqual(self.tool("available")[0], 1)
            self.program("nvidia-smi", "echo it failed; exit 9")
        self.assertEqual(self.record.read_text(), "as it was")

    def test_where_every_test_skips_itself_the_record_stays(self):
        self.record.write_text("as it was")
        self.machine(outcome="skipped")
        code, output = self.run_tool()
        self.assertEqual(code, 0)
        self.assertIn("SKIPPED: every test skipped itself on a GPU, 1.0", output)
        self.assertEqual(self.record.read_text(), "as it was")

    def test_a_missing_sanitizer_is_said_in_one_line(self):
        self.machine()
        (self.folder / "compute-sanitizer").unlink()
        with self.assertRaisesRegex(SystemExit, "^compute-sanitizer is not there: [^\n]*$"):
            self.run_tool()
        self.assertFalse(self.record.exists())


if __name__ == "__main__":
    unittest.main()
