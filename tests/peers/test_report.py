"""The report of a comparison: what is on the page and in the table, and that its pictures are well formed."""

import copy
import json
import pathlib
import re
import sys
import tempfile
import unittest
import xml.etree.ElementTree as xml

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench/peers"))

import report  # noqa: E402: found beside the sources


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
STAGES = {"rows": [{"T": 16, "us": 100.0, "stages_us": {"route": 10.0, "gemm1": 60.0, "gemm2": 30.0}}]}


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
        self.assertEqual([self.figures.best_whole(row) for row in self.figures.rows], [("sglang_triton", r) for r in (1.5, 0.9, 1.5)])

    def test_a_peer_that_did_not_run_is_in_the_notes_alone(self) -> None:
        for text in (self.page(), report.to_markdown(self.figures)):
            self.assertEqual(len(re.findall("vllm", text)), 2)  # its name and the reason's

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
        for rows in ([row(1, 40.0, sglang_triton=60.0)], [row(1, 40.0, deepgemm_products=50.0), row(2, 50.0, deepgemm_products=60.0)]):
            figures = report.Figures({**COMPARISON, "rows": rows})
            for picture in re.findall(r"<svg.*?</svg>", report.to_html(figures, None), flags=re.DOTALL):
                xml.fromstring(picture)

    def test_nothing_measured_is_an_error(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "empty.json"
            path.write_text(json.dumps({**COMPARISON, "rows": []}))
            with self.assertRaises(SystemExit):
                report.main([str(path)])


if __name__ == "__main__":
    unittest.main()
