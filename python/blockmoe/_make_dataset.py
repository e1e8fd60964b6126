"""A data set for flashinfer-bench where the official one is not at hand: what its runner needs to run our solutions.

    definitions/moe/NAME.json            the definition, with a reference program of our own
    workloads/moe/NAME.jsonl             the benchmark's 19 shapes
    blob/workloads/moe/NAME/UUID.safetensors
                                         logits and bias of each, as `blockmoe verify` draws them: in the official data set too they
                                         come from files, and the runner draws the rest
    solutions/blockmoe/moe/NAME/*.json   the python form and the cuda form

The program `blockmoe` reads the same logits with FIB_DATASET_PATH set to the folder.
"""

import errno
import json
import pathlib
from typing import Any

from . import _pack_solution
from ._pack_solution import DEFINITION

_PACKAGE = pathlib.Path(__file__).parent
_DRAWN_BY_RUNNER = (
    "hidden_states",
    "hidden_states_scale",
    "gemm1_weights",
    "gemm1_weights_scale",
    "gemm2_weights",
    "gemm2_weights_scale",
)


def write(folder: pathlib.Path) -> int:
    """Writes the data set into `folder`, which must be empty or not there; the number of its workloads."""
    from . import _draw  # NumPy: the package does without it elsewhere

    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(errno.EEXIST, "not empty", str(folder))
    definition = json.loads((_PACKAGE / "workloads" / f"{DEFINITION}.json").read_text())
    definition["reference"] = (_PACKAGE / "reference_program.py").read_text()
    kind = definition["op_type"]
    _write_json(folder / "definitions" / kind / f"{DEFINITION}.json", definition)
    for form in _pack_solution.OWN_FORMS:
        solution = _pack_solution.solution(form)
        place = folder / "solutions" / solution["author"] / kind / DEFINITION
        _write_json(place / f"{solution['name']}.json", solution)

    experts = definition["axes"]["num_experts"]["value"]
    rows = [json.loads(line) for line in (_PACKAGE / "workloads" / "deepseek_v3.jsonl").read_text().splitlines()]
    lines = []
    for row in rows:
        blob = pathlib.PurePath("blob", "workloads", kind, DEFINITION, f"{row['uuid']}.safetensors")
        logits = _draw.normals(row["T"] * experts, row["seed"], _draw.LOGITS)
        bias = _draw.bf16_bits(_draw.BIAS_DEVIATION * _draw.normals(experts, row["seed"], _draw.BIAS))
        _write_routing(folder / blob, logits.reshape(-1, experts), bias)
        lines.append(json.dumps(_workload(row, f"./{blob}")) + "\n")
    workloads = folder / "workloads" / kind / f"{DEFINITION}.jsonl"
    workloads.parent.mkdir(parents=True)
    workloads.write_text("".join(lines))
    return len(rows)


def _workload(row: dict[str, Any], blob: str) -> dict[str, Any]:
    inputs: dict[str, Any] = {
        name: {"type": "safetensors", "path": blob, "tensor_key": name} for name in ("routing_logits", "routing_bias")
    }
    inputs |= {name: {"type": "random"} for name in _DRAWN_BY_RUNNER}
    inputs |= {name: {"type": "scalar", "value": row[name]} for name in ("local_expert_offset", "routed_scaling_factor")}
    workload = {"uuid": row["uuid"], "axes": {"seq_len": row["T"]}, "inputs": inputs}
    return {"definition": DEFINITION, "solution": None, "workload": workload, "evaluation": None}


def _write_routing(file: pathlib.Path, logits: Any, bias: Any) -> None:
    end = logits.nbytes
    header = {
        "routing_logits": {"dtype": "F32", "shape": logits.shape, "data_offsets": [0, end]},
        "routing_bias": {"dtype": "BF16", "shape": bias.shape, "data_offsets": [end, end + bias.nbytes]},
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(len(text).to_bytes(8, "little") + text + logits.tobytes() + bias.tobytes())


def _write_json(file: pathlib.Path, content: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=2) + "\n")
