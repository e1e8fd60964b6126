"""The operator as a Solution of flashinfer-bench, in two forms.

python    one file that calls the installed package
cuda      the kernels' sources themselves and the entry solution/moe.cu, as the package carries them (the folder `workspace`);
          the runner compiles them by TVM-FFI, for which it wants TVM_FFI_CUDA_ARCH_LIST=9.0a on Hopper
"""

import json
import pathlib
from typing import Any

DEFINITION = "moe_fp8_block_scale_ds_routing_topk8_ng8_kg4_e32_h7168_i2048"
FORMS = ("python", "cuda")

_PACKAGE = pathlib.Path(__file__).parent
_SOURCES = {".cu", ".cuh", ".h", ".cpp"}


def solution(form: str, name: str | None = None) -> dict[str, Any]:
    """The Solution as flashinfer-bench's JSON has it; `name` is blockmoe_<form> where none is given."""
    sources = {"main.py": _PACKAGE / "runner.py"} if form == "python" else _workspace()
    spec = {
        "language": form,
        "target_hardware": ["cuda"],
        "entry_point": "main.py::run" if form == "python" else "moe.cu::run",
        "dependencies": ["blockmoe"] if form == "python" else [],
        "destination_passing_style": True,
    }
    return {
        "name": name or f"blockmoe_{form}",
        "definition": DEFINITION,
        "author": "blockmoe",
        "spec": spec | ({"binding": "tvm-ffi"} if form == "cuda" else {}),
        "sources": [{"path": path, "content": file.read_text()} for path, file in sources.items()],
    }


def write(form: str, file: pathlib.Path, name: str | None = None) -> int:
    """Writes the Solution to `file`; the number of its sources."""
    packed = solution(form, name)
    file.write_text(json.dumps(packed, indent=2) + "\n")
    return len(packed["sources"])


def _workspace() -> dict[str, pathlib.Path]:
    folder = _PACKAGE / "workspace"
    return {str(f.relative_to(folder)): f for f in sorted(folder.rglob("*")) if f.suffix in _SOURCES}
