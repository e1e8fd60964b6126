"""The examples run as they stand: examples/python, and the Python blocks of the README and of docs/python.md."""

import pathlib
import subprocess
import sys

import pytest

from frameworks import needs_torch

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

from readme_examples import examples  # noqa: E402

BLOCKS = [
    pytest.param(example.text, id=f"{page}:{example.line}", marks=[needs_torch] if "import torch" in example.text else [])
    for page in ("README.md", "docs/python.md")
    for example in examples((ROOT / page).read_text(), languages=("python",))
]


def run_alone(command, folder):
    ended = subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.parametrize("block", BLOCKS)
def test_a_pages_block_runs(block, tmp_path):
    run_alone(["-c", block], tmp_path)


def test_there_are_blocks_to_run():
    assert len(BLOCKS) >= 2


def test_the_ranks_of_an_engine_make_the_layer(tmp_path):
    assert "all 1.828" in run_alone([ROOT / "examples/python/expert_parallel_rank.py"], tmp_path)


@needs_torch
@pytest.mark.parametrize("ranks", [2, 3])
def test_the_ranks_of_torchrun_make_the_layer_of_one_process(ranks, tmp_path):
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    printed = run_alone([*torchrun, ROOT / "examples/python/expert_parallel.py"], tmp_path)
    assert printed.count("against one process") == 3 * ranks


@needs_torch
def test_a_layer_as_deepseeks_is_near_the_one_in_float32(tmp_path):
    assert "relative error against float32: 0.0" in run_alone([ROOT / "examples/python/deepseek_layer.py"], tmp_path)
