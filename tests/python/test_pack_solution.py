"""`python -m blockmoe pack-solution`, held to flashinfer-bench's own models."""

import inspect
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


def packed(folder, *options):
    file = folder / "solution.json"
    command = [sys.executable, "-m", "blockmoe", "pack-solution", *options, str(file)]
    subprocess.run(command, check=True, capture_output=True)
    return file


@pytest.fixture(params=["python", "cuda"])
def form(request):
    return request.param


def test_flashinfer_benchs_model_takes_it(models, tmp_path, form):
    solution = models.solution.Solution.model_validate_json(packed(tmp_path, "--form", form).read_text())
    assert solution.name == f"blockmoe_{form}"
    assert solution.spec.language.value == form
    assert solution.spec.destination_passing_style
    assert solution.get_entry_symbol() == "run"
    assert "run" in solution.get_entry_source().content


# Of kernels/, what each form of the workspace leaves out: needs a package, or stands in for what needs it.
TRTLLM = {"blackwell/trtllm/configs.cu"}
CUTLASS = {"blackwell/cutlass/grouped.cuh", "blackwell/cutlass/tiles.cu"} | {
    f"blackwell/cutlass/tile_{tile}.cu"
    for tile in ("64x128", "64x256", "128x128", "256x128", "swapped_128x16", "swapped_128x32")
}
NO_CUTLASS = {"blackwell/cutlass/no_tiles.cu"}


@pytest.mark.parametrize("options, left_out", [([], TRTLLM | CUTLASS), (["--arch", "sm_100a"], TRTLLM | NO_CUTLASS)])
def test_the_cuda_form_is_what_the_workspace_has(models, tmp_path, options, left_out):
    solution = models.solution.Solution.model_validate_json(packed(tmp_path, "--form", "cuda", *options).read_text())
    assert solution.spec.binding == models.solution.SupportedBindings.TVM_FFI
    sources = {source.path: source.content for source in solution.sources}
    kernels = {
        # The runner's builder compiles .cpp files without CUDA's headers.
        str(file.relative_to(ROOT / "kernels")).replace(".cpp", ".cu"): file.read_text()
        for file in (ROOT / "kernels").rglob("*")
        if file.suffix in (".cu", ".cuh", ".h", ".cpp")
    }
    assert left_out < set(kernels)
    expected = {path: text for path, text in kernels.items() if path not in left_out}
    assert sources == expected | {"moe.cu": (ROOT / "solution/moe.cu").read_text()}


def said(folder, *options):
    """What the command prints, and how it ends."""
    command = [sys.executable, "-m", "blockmoe", "pack-solution", *options, str(folder / "solution.json")]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_for_sm_100a_it_says_what_the_runners_compiler_must_be_told(tmp_path):
    lines = said(tmp_path, "--form", "cuda", "--arch", "sm_100a").stdout.splitlines()
    assert lines[1] == "export TVM_FFI_CUDA_ARCH_LIST=10.0a"
    assert re.fullmatch(r"export NVCC_APPEND_FLAGS='--expt-relaxed-constexpr -I\S+/include'", lines[2])


def test_only_what_is_compiled_has_an_architecture(tmp_path):
    ended = said(tmp_path, "--form", "python", "--arch", "sm_100a")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "--arch: sm_100a with --form python, expected --form cuda" in ended.stderr
    assert not (tmp_path / "solution.json").exists()


def test_no_two_files_of_the_kernels_get_one_name():
    names = [file.with_suffix("") for file in (ROOT / "kernels").rglob("*") if file.suffix in (".cu", ".cpp")]
    assert len(names) == len(set(names)) > 0


def test_the_names_are_those_of_the_workspaces_config(models, tmp_path):
    config = (ROOT / "solution/config.toml").read_text()
    solution = models.solution.Solution.model_validate_json(packed(tmp_path, "--form", "cuda").read_text())
    stated = dict(re.findall(r'^(definition|author|language|entry_point) = "(.*)"$', config, re.MULTILINE))
    assert stated == {
        "definition": solution.definition,
        "author": solution.author,
        "language": solution.spec.language.value,
        "entry_point": solution.spec.entry_point,
    }


def test_a_name_of_ones_own(models, tmp_path):
    file = packed(tmp_path, "--form", "python", "--name", "mine")
    assert models.solution.Solution.model_validate_json(file.read_text()).name == "mine"


def test_the_python_forms_entry_makes_the_call(models, tmp_path):
    """On the definition's routing (top 8 of 4 in 8 groups), with small widths."""
    solution = models.solution.Solution.model_validate_json(packed(tmp_path, "--form", "python").read_text())
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


def test_the_baseline_is_a_solution_under_its_name_in_the_benchmark(models, tmp_path):
    file = packed(tmp_path, "--form", "flashinfer")
    solution = models.solution.Solution.model_validate_json(file.read_text())
    assert solution.name == "flashinfer_wrapper_9sdjf3"
    assert not solution.spec.destination_passing_style


def test_the_baseline_passes_the_definitions_arguments_on(models, tmp_path, monkeypatch):
    """To a stand-in that has the parameters of flashinfer-python 0.6.8.post1's operator."""
    received = {}

    def operator(
        routing_logits, routing_bias, hidden_states, hidden_states_scale, gemm1_weights, gemm1_weights_scale, gemm2_weights,
        gemm2_weights_scale, num_experts, top_k, n_group, topk_group, intermediate_size, local_expert_offset,
        local_num_experts, routed_scaling_factor, routing_method_type=0, use_shuffled_weight=False, weight_layout=0,
        do_finalize=True, enable_pdl=None, tune_max_num_tokens=8192,
    ):  # fmt: skip
        received.update(locals())
        return "output"

    fused_moe = types.ModuleType("flashinfer.fused_moe")
    fused_moe.trtllm_fp8_block_scale_moe = operator
    fused_moe.RoutingMethodType = types.SimpleNamespace(DeepSeekV3=2)
    fused_moe.WeightLayout = types.SimpleNamespace(MajorK=0)
    monkeypatch.setitem(sys.modules, "flashinfer", types.ModuleType("flashinfer"))
    monkeypatch.setitem(sys.modules, "flashinfer.fused_moe", fused_moe)
    solution = models.solution.Solution.model_validate_json(packed(tmp_path, "--form", "flashinfer").read_text())
    module = types.ModuleType("main")
    exec(solution.get_entry_source().content, module.__dict__)
    sizes = {"routing_logits": (3, 64), "hidden_states": (3, 256), "gemm2_weights": (8, 256, 128)}
    tensors = {name: np.zeros(sizes.get(name, ())) for name in inspect.signature(module.run).parameters}
    tensors |= {"local_expert_offset": 16, "routed_scaling_factor": 2.5}
    assert module.run(*tensors.values()) == "output"
    assert all(received[name] is value for name, value in tensors.items())
    sizes = {"num_experts": 64, "local_num_experts": 8, "intermediate_size": 128, "top_k": 8, "n_group": 8, "topk_group": 4}
    assert {name: received[name] for name in sizes} == sizes
    assert received["routing_method_type"] == 2


def test_a_file_that_cant_be_written_is_said(tmp_path):
    command = [sys.executable, "-m", "blockmoe", "pack-solution", "--form", "cuda", str(tmp_path / "no" / "file.json")]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    assert ended.returncode == 2
    assert "No such file or directory" in ended.stderr
