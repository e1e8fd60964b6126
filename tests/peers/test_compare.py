"""The driver of the comparison: who is asked what, what a failure costs, and what the JSON says."""

import contextlib
import io
import json
import os
import pathlib
import sys
import tempfile
import unittest
from unittest import mock

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "bench/peers"))

import compare  # noqa: E402: found beside the sources

BENCH = ROOT / "bench/results/h200-hopper-drawn.json"


class Comparing(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def compare(self, peers: dict, *options: str, tokens: tuple[int, ...] = (16, 901)) -> dict:
        asked = self.folder / "asked"
        asked.write_text("")
        names = [option for name in ("deepgemm_mega", "sglang_triton") for option in ("--peer", name)]
        arguments = [*names, *(option for t in tokens for option in ("--tokens", str(t))), *options]
        arguments += ["--bench", str(BENCH), "--json", str(self.folder / "made.json"), "--worker", str(HERE / "fake_worker.py")]
        environment = {"FAKE_PEERS": json.dumps(peers), "FAKE_ASKED": str(asked)}
        self.said = io.StringIO()
        with mock.patch.dict(os.environ, environment), contextlib.redirect_stderr(self.said):
            compare.main(arguments)
        self.asked = [json.loads(line) for line in asked.read_text().splitlines()]
        return json.loads((self.folder / "made.json").read_text())

    def test_peers_take_turns_at_each_T(self) -> None:
        self.compare({"deepgemm_mega": {}, "sglang_triton": {}})
        measured = [(request["T"], request["peer"]) for request in self.asked if request["do"] == "measure"]
        self.assertEqual(measured, [(t, peer) for t in (16, 901) for peer in ("deepgemm_mega", "sglang_triton")])

    def test_everything_is_compiled_before_anything_is_measured(self) -> None:
        self.compare({"deepgemm_mega": {}, "sglang_triton": {}})
        kinds = [request["do"] for request in self.asked]
        self.assertEqual(kinds, sorted(kinds))
        for peer in ("deepgemm_mega", "sglang_triton"):
            compiled = {request["T"] for request in self.asked if request["peer"] == peer and request["do"] == "compile"}
            self.assertEqual(compiled, {16, 901})

    def test_a_row_has_the_median_of_ours_and_each_peers_own(self) -> None:
        row = self.compare({"deepgemm_mega": {}, "sglang_triton": {}}, "--reader", "reader.so")["rows"][0]
        self.assertEqual((row["T"], row["us"], row["us_p10"]), (16, 105.0, 104.0))
        self.assertEqual(row["peer_us"], {"deepgemm_mega": 200.0, "sglang_triton": 220.0})
        self.assertEqual(row["peers"]["sglang_triton"]["ours_us"], 110.0)
        self.assertEqual(row["peers"]["sglang_triton"]["choice"], "masked")

    def test_the_floor_is_the_longer_of_reading_and_of_the_flops(self) -> None:
        row = self.compare({"deepgemm_mega": {}}, "--reader", "reader.so")["rows"][0]
        self.assertEqual(row["floor_us"], 80.0)
        without_reader = self.compare({"deepgemm_mega": {}})["rows"][0]
        rate = json.loads(BENCH.read_text())["ceilings"]["fp8_tflops"]
        self.assertAlmostEqual(without_reader["floor_us"], 10 * 6 * 7168 * 2048 / rate * 1e-6)

    def test_a_peer_that_is_not_there_says_why_and_the_run_goes_on(self) -> None:
        made = self.compare({"sglang_triton": {}})
        why = "ModuleNotFoundError: No module named 'deepgemm_mega'"
        self.assertEqual(made["peers"]["deepgemm_mega"], {"why_not": why})
        self.assertIn(f"deepgemm_mega did not run: {why}", made["notes"])
        self.assertEqual([list(row["peer_us"]) for row in made["rows"]], [["sglang_triton"]] * 2)

    def test_a_wrong_result_is_not_timed(self) -> None:
        made = self.compare({"deepgemm_mega": {"16": "wrong"}, "sglang_triton": {}})
        self.assertEqual(
            [list(row["peer_us"]) for row in made["rows"]], [["sglang_triton"], ["deepgemm_mega", "sglang_triton"]]
        )
        self.assertIn("deepgemm_mega failed at T = 16: ValueError: relative error 0.9, at most 0.03 expected", made["notes"])

    def test_where_ours_fails_the_peer_is_timed_alone(self) -> None:
        made = self.compare({"deepgemm_mega": {"16": "ours"}, "sglang_triton": {"901": "ours"}})
        self.assertEqual([row["us"] for row in made["rows"]], [110.0, 100.0])
        self.assertEqual(made["rows"][0]["peer_us"], {"deepgemm_mega": 200.0, "sglang_triton": 220.0})
        self.assertNotIn("ours_us", made["rows"][0]["peers"]["deepgemm_mega"])
        self.assertIn("blockmoe failed beside deepgemm_mega at T = 16: ValueError: blockmoe: relative error 0.5", made["notes"])

    def test_where_ours_fails_beside_all_its_figures_are_0(self) -> None:
        row = self.compare({"deepgemm_mega": {"16": "ours"}, "sglang_triton": {"16": "ours"}})["rows"][0]
        self.assertEqual((row["us"], row["ratio"], row["tflops"]), (0.0, 0.0, 0.0))
        self.assertEqual(set(row["peer_us"]), {"deepgemm_mega", "sglang_triton"})

    def test_a_process_that_dies_is_started_again(self) -> None:
        made = self.compare({"deepgemm_mega": {"16": "dies"}, "sglang_triton": {}})
        self.assertEqual(set(made["rows"][1]["peer_us"]), {"deepgemm_mega", "sglang_triton"})
        self.assertIn("deepgemm_mega failed at T = 16: its process ended with 3", made["notes"])

    def test_a_process_that_hangs_is_ended(self) -> None:
        made = self.compare({"deepgemm_mega": {"16": "hangs"}, "sglang_triton": {}}, "--timeout", "2")
        self.assertIn("deepgemm_mega failed at T = 16: no answer within 2 s", made["notes"])
        self.assertEqual(set(made["rows"][1]["peer_us"]), {"deepgemm_mega", "sglang_triton"})

    def test_a_peer_that_keeps_dying_is_given_up(self) -> None:
        tokens = (1, 2, 4, 7, 8, 14, 15, 16)
        made = self.compare(
            {"deepgemm_mega": dict.fromkeys(map(str, tokens), "dies"), "sglang_triton": {}},
            "--compile-processes",
            "0",
            tokens=tokens,
        )
        self.assertEqual(sum("its process ended" in note for note in made["notes"]), 6)
        self.assertEqual(sum("lost too often" in note for note in made["notes"]), 1)
        self.assertEqual(len(made["rows"]), 8)

    def test_a_way_that_ends_the_process_costs_only_itself(self) -> None:
        made = self.compare(
            {"deepgemm_mega": {"16": "dies masked", "901": "dies masked"}, "sglang_triton": {}}, "--compile-processes", "0"
        )
        self.assertEqual([row["peers"]["deepgemm_mega"]["choice"] for row in made["rows"]], ["contiguous", "contiguous"])
        self.assertIn("deepgemm_mega at T = 16 without 'masked', which failed: its process ended with 3", made["notes"])
        # Not tried again at the next T.
        self.assertEqual([r["without"] for r in self.asked if r["peer"] == "deepgemm_mega"], [[], ["masked"], ["masked"]])

    def test_a_peer_whose_ways_all_end_the_process_says_how_each_did(self) -> None:
        made = self.compare(
            {"deepgemm_mega": {"16": "dies masked contiguous"}, "sglang_triton": {}}, "--compile-processes", "0"
        )
        why = "deepgemm_mega failed at T = 16: masked: its process ended with 3; contiguous: its process ended with 3"
        self.assertIn(why, made["notes"])
        # Both are tried again where nothing else is left.
        self.assertIn("deepgemm_mega", made["rows"][1]["peer_us"])

    def test_a_run_without_time_says_where_it_was_cut(self) -> None:
        made = self.compare({"deepgemm_mega": {}}, "--budget", "0")
        self.assertEqual(made["rows"], [])
        self.assertIn("the run was cut short at T = 16: its 0 s were over", made["notes"])

    def test_a_peers_folders_are_in_front_of_the_common_ones(self) -> None:
        made = self.compare({"deepgemm_mega": {}, "sglang_triton": {}}, "--site", "/own", "--site", "sglang_triton=/sglang")
        self.assertTrue(made["peers"]["sglang_triton"]["versions"].startswith("/sglang:/own"))
        self.assertTrue(made["peers"]["deepgemm_mega"]["versions"].startswith("/own"))

    def test_progress_is_a_line_a_measurement_where_there_is_no_terminal(self) -> None:
        self.compare({"deepgemm_mega": {}, "sglang_triton": {}})
        self.assertIn("4/4 T = 901, sglang_triton: 220.0 us, ours 110.0 us, error 0.0230, masked", self.said.getvalue())


if __name__ == "__main__":
    unittest.main()
