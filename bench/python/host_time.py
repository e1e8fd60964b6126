#!/usr/bin/env python3
"""Host time of the Python package, in microseconds: what a call costs its thread.

    host_time.py      needs blockmoe and NumPy; PyTorch's rows are left out where it is not installed, CUDA's where there is no GPU

On the CPU T = 0, which goes through all of the package, the binding and the library's validation, and ends there. On a GPU T = 1 of
DeepSeek-V3's layer, to the last launch; bench/host times what lies below Python. Medians of 20000 calls.
"""

import importlib
import importlib.util
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import blockmoe

SMALL = {"experts": 16, "local_experts": 16, "hidden": 256, "intermediate": 128, "top_k": 4, "n_group": 4, "topk_group": 2}
DEEPSEEK_V3 = {
    "experts": 256,
    "local_experts": 32,
    "hidden": 7168,
    "intermediate": 2048,
    "top_k": 8,
    "n_group": 8,
    "topk_group": 4,
}
STEP = ("routing_logits", "hidden_states", "hidden_states_scale")
SCALARS = {"local_expert_offset": 0, "routed_scaling_factor": 2.5}
# Calls between two waits for the device: their launches, three a call, must find room in the stream's queue of 1024.
BATCH = 100


def shapes(sizes: dict[str, int], tokens: int) -> dict[str, tuple[tuple[int, ...], str]]:
    """The tensors of a call: shape, and type in NumPy."""
    local, hidden, intermediate = sizes["local_experts"], sizes["hidden"], sizes["intermediate"]
    return {
        "routing_logits": ((tokens, sizes["experts"]), "float32"),
        "routing_bias": ((sizes["experts"],), "float32"),
        "hidden_states": ((tokens, hidden), "uint8"),
        "hidden_states_scale": ((hidden // 128, tokens), "float32"),
        "gemm1_weights": ((local, 2 * intermediate, hidden), "uint8"),
        "gemm1_weights_scale": ((local, 2 * intermediate // 128, hidden // 128), "float32"),
        "gemm2_weights": ((local, hidden, intermediate), "uint8"),
        "gemm2_weights_scale": ((local, hidden // 128, intermediate // 128), "float32"),
    }


def microseconds(call: Callable[[], object], settle: Callable[[], object], calls: int = 20000) -> float:
    times = []
    for index in range(calls):
        if index % BATCH == 0:
            settle()
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    settle()
    return statistics.median(times) * 1e6


def report(
    framework: str,
    device: str,
    sizes: dict[str, int],
    given: dict[str, Any],
    output: object,
    new_bytes: Callable[[int], object],
    settle: Callable[[], object] = lambda: None,
) -> None:
    routing = {name: sizes[name] for name in ("top_k", "n_group", "topk_group")}
    plan = blockmoe.Plan(64, device, **sizes)
    step = [given[name] for name in STEP]
    bound = plan.bind(blockmoe.Weights(**{name: value for name, value in given.items() if name not in STEP}, **SCALARS))
    workspace = new_bytes(plan.workspace_bytes)
    rows: dict[str, Callable[[], object]] = {
        "fused_moe": lambda: blockmoe.fused_moe(**given, **SCALARS, **routing),
        "fused_moe, output given": lambda: blockmoe.fused_moe(**given, **SCALARS, output=output, **routing),
        "fused_moe, output, plan and workspace given": lambda: blockmoe.fused_moe(
            **given, **SCALARS, output=output, plan=plan, workspace=workspace
        ),
        "bound.run": lambda: bound.run(*step),
        "bound.run, output and workspace given": lambda: bound.run(*step, output, workspace=workspace),
    }
    if framework == "torch":
        importlib.import_module("blockmoe.torch")
        operator = sys.modules["torch"].ops.blockmoe.fused_moe
        rows["torch.ops.blockmoe.fused_moe"] = lambda: operator(*given.values(), *SCALARS.values(), **routing)
    for name, call in rows.items():
        print(f"{framework:8} {device:5} {name:45} {microseconds(call, settle):6.1f} us", flush=True)


def report_torch(device: str, sizes: dict[str, int], tokens: int) -> None:
    import torch  # noqa: PLC0415: not everywhere

    given = {
        name: torch.zeros(shape, dtype=getattr(torch, dtype), device=device)
        for name, (shape, dtype) in shapes(sizes, tokens).items()
    }
    output = torch.empty((tokens, sizes["hidden"]), dtype=torch.bfloat16, device=device)
    settle = torch.cuda.synchronize if device == "cuda" else lambda: None
    with torch.inference_mode():
        report(
            "torch", device, sizes, given, output, lambda size: torch.empty(size, dtype=torch.uint8, device=device), settle
        )


def import_seconds(without: tuple[str, ...]) -> float:
    """Best of five new processes in which the modules `without` are not there."""
    absent = "".join(f"sys.modules[{name!r}] = None; " for name in without)
    code = f"import sys, time; {absent}t = time.perf_counter(); import blockmoe; print(time.perf_counter() - t)"
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout for _ in range(5)]
    return min(float(run) for run in runs)


def main() -> None:
    print(f"import without torch {import_seconds(('torch',)):.3f} s, without NumPy too {import_seconds(('torch', 'numpy')):.3f} s")
    arrays = {name: np.zeros(shape, dtype) for name, (shape, dtype) in shapes(SMALL, 0).items()}
    output = np.empty((0, SMALL["hidden"]), np.uint16)
    report("numpy", "cpu", SMALL, arrays, output, lambda size: np.empty(size, np.uint8))
    if importlib.util.find_spec("torch") is None:
        return
    report_torch("cpu", SMALL, 0)
    if sys.modules["torch"].cuda.is_available():
        report_torch("cuda", DEEPSEEK_V3, 1)


if __name__ == "__main__":
    main()
