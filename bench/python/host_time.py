#!/usr/bin/env python3
"""Host time of the Python package, in microseconds: what a call costs before the backend has work to do.

    host_time.py      needs blockmoe and NumPy; PyTorch's rows are left out where it is not installed

T = 0 goes through all of the package, the binding and the library's validation, and ends there. Medians of 20000 calls.
"""

import importlib.util
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

import blockmoe

EXPERTS, HIDDEN, INTERMEDIATE = 16, 256, 128
ROUTING = {"top_k": 4, "n_group": 4, "topk_group": 2}
SIZES = {"experts": EXPERTS, "local_experts": EXPERTS, "hidden": HIDDEN, "intermediate": INTERMEDIATE}
STEP = ("routing_logits", "hidden_states", "hidden_states_scale")


def arrays() -> dict[str, np.ndarray]:
    """The tensors of a call with T = 0."""
    up_and_gate = 2 * INTERMEDIATE
    return {
        "routing_logits": np.zeros((0, EXPERTS), np.float32),
        "routing_bias": np.zeros(EXPERTS, np.float32),
        "hidden_states": np.zeros((0, HIDDEN), np.uint8),
        "hidden_states_scale": np.zeros((HIDDEN // 128, 0), np.float32),
        "gemm1_weights": np.zeros((EXPERTS, up_and_gate, HIDDEN), np.uint8),
        "gemm1_weights_scale": np.zeros((EXPERTS, up_and_gate // 128, HIDDEN // 128), np.float32),
        "gemm2_weights": np.zeros((EXPERTS, HIDDEN, INTERMEDIATE), np.uint8),
        "gemm2_weights_scale": np.zeros((EXPERTS, HIDDEN // 128, INTERMEDIATE // 128), np.float32),
    }


def microseconds(call: Callable[[], object], calls: int = 20000) -> float:
    times = []
    for _ in range(calls):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e6


def report(framework: str, given: dict[str, object], output: object, new_bytes: Callable[[int], object]) -> None:
    scalars = {"local_expert_offset": 0, "routed_scaling_factor": 2.5}
    plan = blockmoe.Plan(64, "cpu", **SIZES, **ROUTING)
    step = [given[name] for name in STEP]
    bound = plan.bind(blockmoe.Weights(**{name: value for name, value in given.items() if name not in STEP}, **scalars))
    workspace = new_bytes(plan.workspace_bytes)
    rows = {
        "fused_moe": lambda: blockmoe.fused_moe(**given, **scalars, **ROUTING),
        "fused_moe, output given": lambda: blockmoe.fused_moe(**given, **scalars, output=output, **ROUTING),
        "fused_moe, output, plan and workspace given": lambda: blockmoe.fused_moe(
            **given, **scalars, output=output, plan=plan, workspace=workspace
        ),
        "bound.run": lambda: bound.run(*step),
        "bound.run, output and workspace given": lambda: bound.run(*step, output, workspace=workspace),
    }
    for name, call in rows.items():
        print(f"{framework:8} {name:45} {microseconds(call):6.1f} us")


def import_seconds(without: tuple[str, ...]) -> float:
    """Best of five new processes in which the modules `without` are not there."""
    absent = "".join(f"sys.modules[{name!r}] = None; " for name in without)
    code = f"import sys, time; {absent}t = time.perf_counter(); import blockmoe; print(time.perf_counter() - t)"
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout for _ in range(5)]
    return min(float(run) for run in runs)


def main() -> None:
    print(f"import without torch {import_seconds(('torch',)):.3f} s, without NumPy too {import_seconds(('torch', 'numpy')):.3f} s")
    given = arrays()
    report("numpy", given, np.empty((0, HIDDEN), np.uint16), lambda size: np.empty(size, np.uint8))
    if importlib.util.find_spec("torch") is None:
        return
    import torch  # noqa: PLC0415: not everywhere

    import blockmoe.torch  # noqa: PLC0415

    tensors = {name: torch.from_numpy(array) for name, array in given.items()}
    output = torch.empty((0, HIDDEN), dtype=torch.bfloat16)
    report("torch", tensors, output, lambda size: torch.empty(size, dtype=torch.uint8))
    operator = torch.ops.blockmoe.fused_moe
    inputs = (*tensors.values(), 0, 2.5)
    with torch.inference_mode():
        print(f"torch    torch.ops.blockmoe.fused_moe{'':17} {microseconds(lambda: operator(*inputs, **ROUTING)):6.1f} us")


if __name__ == "__main__":
    main()
