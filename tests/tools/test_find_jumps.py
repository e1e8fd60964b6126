"""What tools/find_jumps.py finds in reports of `blockmoe bench --sweep`."""

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def row(tokens: int, ratio: float, experts: int = 3) -> dict:
    return {
        "T": tokens, "active_experts": experts, "path": "hopper/narrow", "floor_us": 40.0, "us": 40.0 * ratio, "ratio": ratio,
    }


class FindJumps(unittest.TestCase):
    def found(self, *rows: dict, void: bool = False, options: tuple[str, ...] = ()) -> tuple[list[str], int]:
        with tempfile.TemporaryDirectory() as folder:
            report = pathlib.Path(folder, "sweep.json")
            report.write_text(json.dumps({"void": void, "rows": rows}))
            command = [sys.executable, ROOT / "tools/find_jumps.py", report, *options]
            ended = subprocess.run(command, capture_output=True, text=True, check=False)
        self.assertEqual(ended.stderr, "")
        return ended.stdout.splitlines(), ended.returncode

    def test_a_smooth_sweep(self):
        lines, code = self.found(row(1, 1.2), row(2, 1.25), row(3, 1.2))
        self.assertEqual(code, 0)
        self.assertEqual(lines, ["3 sizes, T 1 to 3: 0 jumps above 5.0%, 0 falls as large where experts came in"])

    def test_rises_and_falls_are_jumps_whatever_the_order_of_rows(self):
        lines, code = self.found(row(4, 1.0), row(1, 1.0), row(2, 1.1), row(3, 1.0))
        self.assertEqual(code, 1)
        self.assertEqual(lines[0][:23], "T 1 to 2: +10.0%, JUMP:")
        self.assertIn("44.0 us / 40.0 us = 1.100 (3 experts, hopper/narrow)", lines[0])
        self.assertEqual(lines[1][:15], "T 2 to 3: -9.1%")
        self.assertEqual(lines[2], "4 sizes, T 1 to 4: 2 jumps above 5.0%, 0 falls as large where experts came in")

    def test_a_fall_where_experts_come_in_is_no_jump_and_is_listed(self):
        lines, code = self.found(row(1, 1.6, experts=3), row(2, 1.3, experts=5), row(3, 1.5, experts=6))
        self.assertEqual(code, 1)
        self.assertEqual(lines[0][:31], "T 1 to 2: -18.8%, more experts:")
        self.assertEqual(lines[1][:23], "T 2 to 3: +15.4%, JUMP:")
        self.assertEqual(lines[2], "3 sizes, T 1 to 3: 1 jumps above 5.0%, 1 falls as large where experts came in")
        self.assertEqual(self.found(row(1, 1.6, experts=3), row(2, 1.3, experts=5))[1], 0)

    def test_the_limit_is_the_callers(self):
        rows = (row(1, 1.0), row(2, 1.1))
        self.assertEqual(self.found(*rows, options=("--limit", "0.11"))[1], 0)
        self.assertEqual(self.found(*rows, options=("--limit", "0.09"))[1], 1)

    def test_sizes_without_an_active_expert_are_passed_over(self):
        self.assertEqual(self.found(row(1, 9.0, experts=0), row(2, 1.0), row(3, 1.0))[1], 0)

    def test_nothing_to_compare_is_no_verdict(self):
        self.assertEqual(self.found(row(1, 1.0))[1], 2)
        self.assertEqual(self.found(row(1, 1.0), row(2, 1.0), void=True)[1], 2)


if __name__ == "__main__":
    unittest.main()
