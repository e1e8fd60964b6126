"""`bench` where there is no GPU: the form of its JSON, when a run is void, what it refuses.

The environment's BENCH_REPORT_SAMPLE names the program that writes a made-up report.
"""

import json
import os
import subprocess
import unittest

from harness import HERE, CliTest, schema

H200, H100 = "NVIDIA H200", "NVIDIA H100 80GB HBM3"


def sample(gpu, read=4650, fp8=1451, blockwise=1202, *more):
    command = [os.environ["BENCH_REPORT_SAMPLE"], gpu, str(read), str(fp8), str(blockwise), *more]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


class Report(unittest.TestCase):
    def test_json_is_as_the_schema_says(self):
        report = sample(H200)
        schema("bench")(report)
        self.assertEqual(report["routing"], "zipf:1.2")
        self.assertEqual((report["void"], report["notes"]), (False, []))
        plain, full = report["rows"]
        self.assertEqual((plain["us"], plain["us_p10"], plain["us_p90"], plain["ratio"]), (64, 60, 70, 2))
        self.assertEqual((full["eager_us"], full["stages_us"]), (80, {"route": 5, "gemm1": 30}))
        self.assertEqual(set(full) - set(plain), {"eager_us", "stages_us"})

    def test_pruned_figures_are_marked(self):
        self.assertIsNone(sample(H200)["pruning"])
        report = sample(H200, 4650, 1451, 1202, "3")
        schema("bench")(report)
        self.assertEqual(report["pruning"], {"mark": "PRUNED", "max_local_picks": 3, "min_weight_share": 0})

    def test_committed_figures_are_as_the_schema_says(self):
        found = 0
        for path in sorted((HERE.parents[1] / "bench/results").glob("*.json")):
            report = json.loads(path.read_text())
            if "ceilings" not in report:
                continue
            with self.subTest(path.name):
                schema("bench")(report)
            found += 1
        self.assertGreater(found, 0)

    def test_a_run_is_void_where_one_ceiling_is_too_low_for_the_card(self):
        cases = [
            (H200, {}, None), (H200, {"read": 4499}, "read"), (H200, {"fp8": 1349}, "dense FP8 product"),
            (H200, {"blockwise": 1129}, "blockwise product"), (H200, {"read": 4500, "fp8": 1350, "blockwise": 1130}, None),
            (H100, {"read": 3050, "fp8": 1455, "blockwise": 1228}, None),
            (H100, {"read": 2900, "fp8": 1455, "blockwise": 1228}, "read"),
            (H100, {"read": 3050, "fp8": 1300, "blockwise": 1228}, "dense FP8 product"),
            (H100, {"read": 3050, "fp8": 1455, "blockwise": 1100}, "blockwise product"),
        ]
        for gpu, rates, what in cases:
            with self.subTest(f"{gpu} {rates}"):
                report = sample(gpu, **rates)
                self.assertEqual(report["void"], what is not None)
                self.assertEqual([what in note and gpu in note for note in report["notes"]], [True] if what else [])

    def test_a_ceiling_that_was_not_measured_is_not_judged(self):
        self.assertFalse(sample(H200, fp8=0, blockwise=0)["void"])

    def test_a_card_of_which_nothing_is_known_is_not_judged_and_that_is_said(self):
        report = sample("NVIDIA H100 PCIe", read=1)
        self.assertFalse(report["void"])
        self.assertEqual(["not judged" in note for note in report["notes"]], [True])


class Sweep(CliTest):
    def test_a_range_that_is_none_is_refused(self):
        for text in ("5", "5..1", "0..5", "1..5/0", "1..5/5"):
            with self.subTest(text):
                self.assert_refused("bench", "--sweep", text, says=["--sweep", f"'{text}'", "A..B or A..B/N"])

    def test_other_sizes_beside_it_are_refused(self):
        for option in (["--tokens", "1"], ["--all"], ["--uuid", "e05c6c03"], ["--workloads", "rows.jsonl"]):
            with self.subTest(option[0]):
                self.assert_refused("bench", "--sweep", "1..5", *option, says=["excludes", "--sweep", option[0]])
        self.assert_refused("bench", "--ep", "--sweep", "1..5", says=["--ep", "excludes", "--sweep"])


class OverRanks(CliTest):
    def test_what_it_would_not_use_is_refused(self):
        unused = [
            ["--profile", "model"], ["--routing", "zipf"], ["--seed", "1"], ["--device", "cuda:1"], ["--warmup", "1"], ["--eager"],
            ["--stages"], ["--max-local-picks", "2"], ["--min-weight-share", "0.1"],
        ]
        for option in unused:
            with self.subTest(option[0]):
                self.assert_refused("bench", "--ep", *option, says=f"{option[0]} excludes --ep")
        self.assert_refused("bench", "--ep", "--markdown", "table.md", says="--markdown: given beside --ep, expected --json")

    def test_its_options_without_it_are_refused(self):
        self.assert_refused("bench", "--ranks", "2", says="--ranks requires --ep")


if __name__ == "__main__":
    unittest.main()
