"""`python -m blockmoe pack-solution`, held to flashinfer-bench's own models."""

import importlib
import importlib.util
import pathlib
import re
import subprocess
import sys
import types

import numpy as np
import pytest

import blockmoe
from frameworks import NumPy

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def models():
    """flashinfer_bench.data.solution alone: the package's own __init__ imports PyTorch."""
    spec = importlib.util.find_spec("flashinfer_bench")
    if spec is None:
        pytest.skip("flashinfer-bench is not installed")
    for name, folder in (("flashinfer_bench", ""), ("flashinfer_bench.data", "data")):
        package = types.ModuleType(name)
        package.__path__ = [str(pathlib.Path(spec.origin).parent / folder)]
        sys.modules[name] = package
    yield importlib.import_module("flashinfer_bench.data.solution")
    for name in [name for name in sys.modules if name.split(".")[0] == "flashinfer_bench"]:
        del sys.modules[name]


def packed(folder, *options):
    file = folder / "solution.json"
    command = [sys.executable, "-m", "blockmoe", "pack-solution", *options, str(file)]
    subprocess.run(command, check=True, capture_output=True)
    return file


@pytest.fixture(params=["python", "cuda"])
def form(request):
    return request.param


def test_flashinfer_benchs_model_takes_it(models, tmp_path, form):
    solution = models.Solution.model_validate_json(packed(tmp_path, "--form", form).read_text())
    assert solution.name == f"blockmoe_{form}"
    assert solution.spec.language.value == form
    assert solution.spec.destination_passing_style
    assert solution.get_entry_symbol() == "run"
    assert "run" in solution.get_entry_source().content


def test_the_cuda_form_is_what_the_workspace_has(models, tmp_path):
    solution = models.Solution.model_validate_json(packed(tmp_path, "--form", "cuda").read_text())
    assert solution.spec.binding == models.SupportedBindings.TVM_FFI
    sources = {source.path: source.content for source in solution.sources}
    kernels = {
        str(file.relative_to(ROOT / "kernels")): file.read_text()
        for file in (ROOT / "kernels").rglob("*")
        if file.suffix in (".cu", ".cuh", ".h", ".cpp")
    }
    assert sources == kernels | {"moe.cu": (ROOT / "solution/moe.cu").read_text()}


def test_the_names_are_those_of_the_workspaces_config(models, tmp_path):
    config = (ROOT / "solution/config.toml").read_text()
    solution = models.Solution.model_validate_json(packed(tmp_path, "--form", "cuda").read_text())
    stated = dict(re.findall(r'^(definition|author|language|entry_point) = "(.*)"$', config, re.MULTILINE))
    assert stated == {
        "definition": solution.definition,
        "author": solution.author,
        "language": solution.spec.language.value,
        "entry_point": solution.spec.entry_point,
    }


def test_a_name_of_ones_own(models, tmp_path):
    file = packed(tmp_path, "--form", "python", "--name", "mine")
    assert models.Solution.model_validate_json(file.read_text()).name == "mine"


def test_the_python_forms_entry_makes_the_call(models, tmp_path):
    """On the definition's routing (top 8 of 4 in 8 groups), with small widths."""
    solution = models.Solution.model_validate_json(packed(tmp_path, "--form", "python").read_text())
    module = types.ModuleType("main")
    exec(solution.get_entry_source().content, module.__dict__)
    rng = np.random.default_rng(0)
    tokens, experts, local, hidden, intermediate = 3, 64, 8, 256, 128
    inputs = (
        rng.standard_normal((tokens, experts), np.float32),
        np.zeros(experts, np.uint16),
        np.full((tokens, hidden), 0x38, np.uint8),
        np.ones((hidden // 128, tokens), np.float32),
        np.full((local, 2 * intermediate, hidden), 0x38, np.uint8),
        np.full((local, 2 * intermediate // 128, hidden // 128), 1 / hidden, np.float32),
        np.full((local, hidden, intermediate), 0x38, np.uint8),
        np.full((local, hidden // 128, intermediate // 128), 1 / intermediate, np.float32),
        0,
        2.5,
    )
    output = NumPy().output(tokens, hidden)
    module.run(*inputs, output)
    np.testing.assert_array_equal(output, blockmoe.fused_moe(*inputs))


def test_a_file_that_cant_be_written_is_said(tmp_path):
    command = [sys.executable, "-m", "blockmoe", "pack-solution", "--form", "cuda", str(tmp_path / "no" / "file.json")]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    assert ended.returncode == 2
    assert "No such file or directory" in ended.stderr
