"""The report of a comparison: what is on the page and in the table, and that its pictures are well formed."""

import contextlib
import copy
import io
import json
import pathlib
import re
import sys
import tempfile
import unittest
import xml.etree.ElementTree as xml

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench/peers"))

import chart  # noqa: E402: found beside the sources
import report  # noqa: E402


def row(tokens: int, us: float, **peers: float) -> dict:
    return {
        "T": tokens,
        "active_experts": min(32, tokens),
        "rows": tokens,
        "path": "hopper/narrow",
        "floor_us": 0.8 * us,
        "us": us,
        "us_p10": us,
        "us_p90": us,
        "ratio": 1.25,
        "tflops": float(tokens),
        "peer_us": peers,
        "peers": {
            name: {"us": time, "us_p10": time, "us_p90": time, "ours_us": us, "relative_error": 0.023, "choice": "masked"}
            for name, time in peers.items()
        },
    }


COMPARISON = {
    "schema": 1,
    "machine": {"gpu": "A <GPU>", "driver": "1", "cuda": "13.0", "host": "A host"},
    "date": "2026-01-02T03:04:05Z",
    "commit": "abc1234",
    "command": "bench/peers/compare.py",
    "profile": "model",
    "routing": "normal",
    "method": "as it is",
    "ceilings": {"read_gbps": 4500.0, "fp8_tflops": 1400.0, "blockwise_tflops": 1300.0},
    "void": False,
    "notes": ["vllm_triton did not run: No module named 'vllm'"],
    "peers": {
        "sglang_triton": {"title": "SGLang", "part": "whole", "takes": "e4m3", "versions": "1"},
        "deepgemm_products": {"title": "DeepGEMM", "part": "products", "takes": "e4m3", "versions": "1"},
        "vllm_triton": {"why_not": "No module named 'vllm'"},
    },
    "rows": [
        row(901, 300.0, deepgemm_products=250.0, sglang_triton=450.0),
        row(1, 40.0, deepgemm_products=50.0, sglang_triton=60.0),
        row(16, 100.0, sglang_triton=90.0),
    ],
}
STAGES = {
    "rows": [
        {
            "T": 16,
            "us": 90.0,
            "stages_us": {"combine": 10.0, "gemm1": 50.0, "gemm2": 20.0, "pack": 5.0, "route": 15.0, "route+pack": 18.0},
        }
    ]
}


class Reporting(unittest.TestCase):
    def setUp(self) -> None:
        self.figures = report.Figures(copy.deepcopy(COMPARISON))

    def page(self, stages: dict | None = STAGES) -> str:
        return report.to_html(self.figures, stages)

    def test_the_table_has_a_row_a_T_in_order_and_the_multiple_of_ours(self) -> None:
        rows = [line for line in report.to_markdown(self.figures).splitlines() if re.match(r"\| \d", line)]
        self.assertEqual(
            rows,
            [
                "| 1 (1, 1) | 32.0 | **40.0** | 50.0 (1.25) | 60.0 (1.50) |",
                "| 16 (16, 16) | 80.0 | **100** |  | 90.0 (0.90) |",
                "| 901 (32, 901) | 240 | **300** | 250 (0.83) | 450 (1.50) |",
            ],
        )

    def test_the_best_other_is_a_whole_layer(self) -> None:
        self.assertEqual(
            [self.figures.best_whole(row) for row in self.figures.rows], [("sglang_triton", r) for r in (1.5, 0.9, 1.5)]
        )

    def test_a_peer_that_did_not_run_is_in_the_notes_alone(self) -> None:
        for text in (self.page(), report.to_markdown(self.figures)):
            self.assertEqual((text.count("vLLM, Triton experts"), text.count("vllm")), (1, 1))  # its name and the reason's
        self.assertEqual(self.figures.notes(), [])

    def test_failures_that_differ_in_figures_are_one_note(self) -> None:
        wrong = "ValueError: relative error {}, at most 0.03 expected"
        self.figures.about["notes"] += [
            "the run was cut short at T = 7: its 10 s were over",
            "sglang_triton failed at T = 16: " + wrong.format(0.9),
            "sglang_triton failed at T = 901: " + wrong.format(0.8),
            "deepgemm_products at T = 1 without 'masked', which failed: its process ended with 3",
        ]
        self.assertEqual(
            self.figures.notes(),
            [
                "the run was cut short at T = 7: its 10 s were over",
                f"SGLang failed at T = 16, 901: {wrong.format(0.9)} (the first of them)",
                "DeepGEMM at T = 1 without 'masked', which failed: its process ended with 3",
            ],
        )

    def test_where_ours_failed_the_peers_are_still_drawn(self) -> None:
        rows = self.figures.rows
        rows[0].update(us=0.0, us_p10=0.0, us_p90=0.0, ratio=0.0, tflops=0.0, path="")
        for peer in rows[0]["peers"].values():
            del peer["ours_us"]
        del rows[1]["peers"]["sglang_triton"]["ours_us"]
        lines = report.to_markdown(self.figures).splitlines()
        self.assertIn("| 1 (1, 1) | 32.0 | **–** | 50.0 | 60.0 |", lines)
        self.assertIn("| 16 (16, 16) | 80.0 | **100** |  | 90.0 (0.90) |", lines)  # of ours beside the others
        page = self.page()
        self.assertEqual(page.count("<svg"), 5)
        self.assertIn("SGLang, T = 1: 60.0 us", page)
        self.assertNotIn("blockmoe, T = 1:", page)

    def test_where_ours_failed_everywhere_there_is_still_a_page(self) -> None:
        for row in self.figures.rows:
            row.update(us=0.0, ratio=0.0, tflops=0.0)
            for peer in row["peers"].values():
                del peer["ours_us"]
        self.assertEqual(self.page(None).count("<svg"), 2)  # times and roofline

    def test_a_wrong_result_of_ours_is_told_at_the_top(self) -> None:
        self.assertNotIn("blockmoe itself", self.page())
        self.figures.about["notes"].append("blockmoe failed beside sglang_triton at T = 1: ValueError: relative error 0.06")
        page = self.page()
        self.assertIn("blockmoe itself gave a wrong result or none in 1 of the measurements", page)
        self.assertLess(page.index("blockmoe itself"), page.index("<svg"))

    def test_stages_are_in_the_order_of_the_call_and_none_twice(self) -> None:
        picture = report.stage_shares(STAGES)
        names = re.findall(r'class="name [^"]*" text-anchor="start">([^<]+)', picture)
        self.assertEqual(names, ["route", "pack", "first product, SwiGLU", "second product", "combine"])
        self.assertIn("100 us; 90.0 us", picture)

    def test_names_at_the_lines_do_not_touch(self) -> None:
        drawn = chart.Chart((1, 2), (1, 2), right=200)
        drawn.labels([(100.0 + i / 10, str(i), "p0") for i in range(8)])
        at = [float(y) for y in re.findall(r'<text x="[^"]*" y="([^"]*)"', "".join(drawn.body))]
        self.assertTrue(all(b - a >= 17.9 for a, b in zip(at, at[1:])), at)

    def test_figures_of_an_axis_do_not_touch(self) -> None:
        drawn = chart.Chart((1, 2), (0.5, 10), height=420)
        drawn.axes([], [1, 2, 0.9, 1.1, 0.5, 10], "", "", str)
        at = sorted(float(y) for y in re.findall(r'y="([^"]*)" class="tick"', "".join(drawn.body)))
        self.assertTrue(all(b - a >= 16 for a, b in zip(at, at[1:])), at)

    def test_every_picture_is_well_formed(self) -> None:
        pictures = re.findall(r"<svg.*?</svg>", self.page(), flags=re.DOTALL)
        self.assertEqual(len(pictures), 5)
        for picture in pictures:
            self.assertTrue(xml.fromstring(picture).find("title") is not None)

    def test_without_stages_their_picture_is_left_out(self) -> None:
        self.assertEqual(self.page(None).count("<svg"), 4)

    def test_the_page_needs_no_other_file(self) -> None:
        self.assertEqual(re.findall(r"(?:src|href)=|url\(|@import|https?://", self.page()), [])

    def test_what_the_machine_says_is_text(self) -> None:
        self.assertIn("A &lt;GPU&gt;", self.page())
        self.assertNotIn("<GPU>", self.page())

    def test_a_void_run_says_so(self) -> None:
        self.figures.about["void"] = True
        self.assertIn("void", self.page())

    def test_one_T_and_no_other_whole_layer_still_draw(self) -> None:
        for rows in (
            [row(1, 40.0, sglang_triton=60.0)],
            [row(1, 40.0, deepgemm_products=50.0), row(2, 50.0, deepgemm_products=60.0)],
        ):
            figures = report.Figures({**COMPARISON, "rows": rows})
            for picture in re.findall(r"<svg.*?</svg>", report.to_html(figures, None), flags=re.DOTALL):
                xml.fromstring(picture)

    def test_nothing_measured_is_an_error(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "empty.json"
            path.write_text(json.dumps({**COMPARISON, "rows": []}))
            with self.assertRaises(SystemExit), contextlib.redirect_stderr(io.StringIO()):
                report.main([str(path)])


if __name__ == "__main__":
    unittest.main()
