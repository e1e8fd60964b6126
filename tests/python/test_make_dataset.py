"""`python -m blockmoe make-dataset`: what flashinfer-bench's models and the program `blockmoe` read from it."""

import json
import pathlib
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest

from blockmoe import _draw

ROOT = pathlib.Path(__file__).resolve().parents[2]
NAME = "moe_fp8_block_scale_ds_routing_topk8_ng8_kg4_e32_h7168_i2048"
ROWS = [json.loads(line) for line in (ROOT / "workloads/deepseek_v3.jsonl").read_text().splitlines()]


def made(folder, code="pass"):
    command = ["-c", f"{code}; from blockmoe.__main__ import main; raise SystemExit(main())"]
    return subprocess.run(
        [sys.executable, *command, "make-dataset", str(folder)], check=False, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dataset")
    ended = made(folder)
    assert ended.returncode == 0, ended.stderr
    return folder


def workloads(models, dataset):
    lines = (dataset / f"workloads/moe/{NAME}.jsonl").read_text().splitlines()
    return [models.trace.Trace.model_validate_json(line) for line in lines]


def tensors_of(file):
    content = file.read_bytes()
    begin = 8 + int.from_bytes(content[:8], "little")
    assert begin % 8 == 0
    types = {"F32": np.float32, "BF16": ml_dtypes.bfloat16}
    header = json.loads(content[8:begin])
    return {
        name: np.frombuffer(content[begin:][slice(*entry["data_offsets"])], types[entry["dtype"]]).reshape(entry["shape"])
        for name, entry in header.items()
    }


def fnv1a(content):
    """As tests/unit/workload_generator_test.cpp hashes."""
    value = 0xCBF29CE484222325
    for byte in content:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


def test_numbers_are_those_of_the_program():
    # The hashes that tests/unit/workload_generator_test.cpp holds the program to.
    assert fnv1a(_draw.normal_table().tobytes()) == 0x0D05ACE6F5438946
    assert fnv1a(_draw.normals(1000, 0x123456789ABCDEF0, _draw.LOGITS).tobytes()) == 0x58AF2B507D573FC7


def test_rounding_to_bf16_is_to_the_nearest_and_ties_to_even():
    values = np.array([1, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -0.3, 1e-3], np.float32)
    np.testing.assert_array_equal(_draw.bf16_bits(values), values.astype(ml_dtypes.bfloat16).view(np.uint16))


def test_the_definitions_model_takes_it(models, dataset):
    text = (dataset / f"definitions/moe/{NAME}.json").read_text()
    definition = models.definition.Definition.model_validate_json(text)
    shipped = json.loads((ROOT / f"workloads/{NAME}.json").read_text())
    assert {key: value for key, value in json.loads(text).items() if key != "reference"} == shipped
    assert definition.reference == (ROOT / "python/blockmoe/reference_program.py").read_text()


def test_workloads_are_the_benchmarks(models, dataset):
    found = workloads(models, dataset)
    assert all(trace.is_workload_trace() and trace.definition == NAME for trace in found)
    stated = [
        (w.uuid, w.axes["seq_len"], w.inputs["local_expert_offset"].value, w.inputs["routed_scaling_factor"].value)
        for w in (trace.workload for trace in found)
    ]
    assert stated == [(row["uuid"], row["T"], row["local_expert_offset"], 2.5) for row in ROWS]


def test_a_workload_says_where_each_argument_comes_from(models, dataset):
    definition = models.definition.Definition.model_validate_json((dataset / f"definitions/moe/{NAME}.json").read_text())
    for trace in workloads(models, dataset):
        assert set(trace.workload.inputs) == set(definition.inputs)
        from_files = [name for name, source in trace.workload.inputs.items() if source.type == "safetensors"]
        assert from_files == ["routing_logits", "routing_bias"]


def test_files_hold_the_seeds_numbers(models, dataset):
    for row, trace in zip(ROWS[:3], workloads(models, dataset), strict=False):
        tensors = tensors_of(dataset / trace.workload.inputs["routing_logits"].path)
        logits = _draw.normals(row["T"] * 256, row["seed"], _draw.LOGITS)
        np.testing.assert_array_equal(tensors["routing_logits"], logits.reshape(row["T"], 256))
        assert tensors["routing_bias"].shape == (256,)
        assert 0 < np.abs(tensors["routing_bias"].astype(np.float32)).max() < 0.05


def test_both_solutions_are_there(models, dataset):
    files = sorted((dataset / "solutions").rglob("*.json"))
    found = [models.solution.Solution.model_validate_json(file.read_text()) for file in files]
    assert [solution.name for solution in found] == ["blockmoe_cuda", "blockmoe_python"]
    assert {solution.definition for solution in found} == {NAME}


def test_a_folder_that_holds_something_is_left_alone(dataset):
    before = sorted(dataset.rglob("*"))
    ended = made(dataset)
    assert ended.returncode == 2
    assert ended.stderr == f"{dataset}: not empty\n"
    assert sorted(dataset.rglob("*")) == before


def test_without_numpy_it_says_so_and_writes_nothing(tmp_path):
    ended = made(tmp_path / "new", code="import sys; sys.modules['numpy'] = sys.modules['torch'] = None")
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1] == "make-dataset needs numpy, which is not installed"
    assert not (tmp_path / "new").exists()


def test_the_reference_program_gives_the_layer():
    """On the definition's routing, with small widths; it does not requantise, blockmoe does."""
    torch = pytest.importorskip("torch", reason="torch is not installed (make test-python-torch installs it)")
    import blockmoe
    from blockmoe import reference_program

    rng = torch.Generator().manual_seed(0)
    tokens, experts, local, hidden, intermediate = 40, 64, 16, 512, 256

    def floats(*shape):
        return torch.randn(shape, generator=rng)

    def codes(*shape):
        return floats(*shape).clamp(-2, 2).to(torch.float8_e4m3fn)

    inputs = (
        floats(tokens, experts),
        (floats(experts) / 100).to(torch.bfloat16),
        codes(tokens, hidden),
        floats(hidden // 128, tokens),
        codes(local, 2 * intermediate, hidden),
        floats(local, 2 * intermediate // 128, hidden // 128),
        codes(local, hidden, intermediate),
        floats(local, hidden // 128, intermediate // 128),
        32,
        2.5,
    )
    expected = reference_program.run(*inputs).double()
    error = (blockmoe.fused_moe(*inputs).double() - expected).norm() / expected.norm()
    assert 0.01 < error < 0.03  # of one requantisation to e4m3
    without = (expected == 0).all(dim=1)
    assert 0 < without.sum() < tokens
