"""The operator as a Solution of flashinfer-bench, in two forms, and what it is compared with, in a third.

python      one file that calls the installed package
cuda        the kernels' sources themselves and the entry solution/moe.cu, as the package carries them (the folder `workspace`);
            the runner compiles them by TVM-FFI, for which it wants TVM_FFI_CUDA_ARCH_LIST=9.0a on Hopper. With arch="sm_100a"
            the products for a B200 are among them, which want what environment() says
flashinfer  one file that calls FlashInfer's operator, which runs on Blackwell alone
"""

import importlib.util
import json
import pathlib
import shlex
from typing import Any

DEFINITION = "moe_fp8_block_scale_ds_routing_topk8_ng8_kg4_e32_h7168_i2048"

_PACKAGE = pathlib.Path(__file__).parent
_SOURCES = {".cu", ".cuh", ".h"}
_SPECS: dict[str, dict[str, Any]] = {
    "python": {"language": "python", "entry_point": "main.py::run", "dependencies": ["blockmoe"]},
    "cuda": {"language": "cuda", "entry_point": "moe.cu::run", "dependencies": [], "binding": "tvm-ffi"},
    # Returns its output.
    "flashinfer": {
        "language": "python",
        "entry_point": "main.py::run",
        "dependencies": ["flashinfer"],
        "destination_passing_style": False,
    },
}
_ONE_FILE = {"python": "runner.py", "flashinfer": "flashinfer_baseline.py"}
# The baseline's name in the benchmark.
_NAMES = {"python": "blockmoe_python", "cuda": "blockmoe_cuda", "flashinfer": "flashinfer_wrapper_9sdjf3"}

FORMS = tuple(_SPECS)
# By the name that TVM-FFI has for them.
ARCHITECTURES = {"sm_100a": "10.0a"}
# Where packages keep CUTLASS's headers, beside their __init__.py.
_CUTLASS = {"cutlass_library": "source/include", "flashinfer": "data/cutlass/include"}
OWN_FORMS = ("python", "cuda")


def solution(form: str, name: str | None = None, arch: str | None = None) -> dict[str, Any]:
    """The Solution as flashinfer-bench's JSON has it; `name` is the form's own where none is given. `arch` is of form cuda alone."""
    if arch is not None and form != "cuda":
        raise ValueError(f"arch: {arch} of form {form}, expected form cuda, which is compiled")
    sources = {"main.py": _PACKAGE / _ONE_FILE[form]} if form in _ONE_FILE else _workspace(arch)
    return {
        "name": name or _NAMES[form],
        "definition": DEFINITION,
        "author": "blockmoe",
        "spec": {"target_hardware": ["cuda"], "destination_passing_style": True} | _SPECS[form],
        "sources": [{"path": path, "content": file.read_text()} for path, file in sources.items()],
    }


def write(form: str, file: pathlib.Path, name: str | None = None, arch: str | None = None) -> int:
    """Writes the Solution to `file`; the number of its sources."""
    packed = solution(form, name, arch)
    file.write_text(json.dumps(packed, indent=2) + "\n")
    return len(packed["sources"])


def environment(arch: str) -> dict[str, str]:
    """What the runner's compiler must be told for a Solution of `arch`, with the place of CUTLASS's headers on this machine.

    The builder has no flags of a Solution's own; nvcc takes them from its environment.
    """
    headers = _cutlass_headers() or "/path/to/cutlass/include"
    return {
        "TVM_FFI_CUDA_ARCH_LIST": ARCHITECTURES[arch],
        "NVCC_APPEND_FLAGS": shlex.join(["--expt-relaxed-constexpr", f"-I{headers}"]),
    }


def _cutlass_headers() -> pathlib.Path | None:
    for package, folder in _CUTLASS.items():
        found = importlib.util.find_spec(package)
        if found is None or found.origin is None:
            continue
        headers = pathlib.Path(found.origin).parent / folder
        if (headers / "cutlass/version.h").exists():
            return headers
    return None


def _workspace(arch: str | None) -> dict[str, pathlib.Path]:
    folder = _PACKAGE / ("workspace" if arch is None else f"workspace_{arch}")
    return {str(f.relative_to(folder)): f for f in sorted(folder.rglob("*")) if f.suffix in _SOURCES}
