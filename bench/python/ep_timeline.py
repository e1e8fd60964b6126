#!/usr/bin/env python3
"""The timeline of one expert-parallel call of DeepSeek-V3's layer on GPUs, from PyTorch's profiler: which kernel ran when, on which
stream. Needs blockmoe, PyTorch and Matplotlib, and a GPU a rank:

    torchrun --nproc-per-node 2 bench/python/ep_timeline.py --tokens 8192 --svg timeline.svg > timeline.md

Rank 0 prints a line a kernel (microseconds from the first kernel's start) and draws them. A profiled call is a little slower than another:
the figures show the order and the overlap, `blockmoe bench --ep` the times. Where another rank's profiler starts later, the first message
waits for it, half a second perhaps: run it again.
"""

import argparse
import dataclasses
import os
import pathlib

import matplotlib as mpl
import torch
import torch.distributed as dist
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

import blockmoe
from blockmoe.expert_parallel import EpGroup

mpl.use("svg")
from matplotlib import pyplot as plt  # noqa: E402

E, H, I = 256, 7168, 2048
WARM_UP = 3
# Part of a kernel's name, and what it is on the page.
STEPS = {
    "unpack_records": "unpack",
    "pack_records": "pack",
    "sum_parts": "sum",
    "nccl": "NCCL",
    "products_kernel": "products",
    "combine": "combine",
    "route": "route",
    "take_picks": "route",
    "pack": "route",
}
COLOURS = {"products": "#3b6ea8", "combine": "#7aa6d6", "NCCL": "#d08a2e", "route": "#8a8a8a", "sum": "#5b8f5b"}


@dataclasses.dataclass
class Run:
    """One kernel."""

    step: str
    stream: int
    begin: float  # microseconds
    end: float


def codes(*shape: int, device: torch.device) -> torch.Tensor:
    """e4m3 of normal numbers, made an expert at a time where there are many."""
    made = torch.empty(shape, dtype=torch.float8_e4m3fn, device=device)
    for part in made if len(shape) == 3 else [made]:
        part.copy_(torch.randn(part.shape, device=device).clamp(-2, 2))
    return made


def layer(group: EpGroup, held: int, device: torch.device) -> blockmoe.Weights:
    return blockmoe.Weights(
        gemm1_weights=codes(held, 2 * I, H, device=device),
        gemm1_weights_scale=torch.rand(held, 2 * I // 128, H // 128, device=device) / H**0.5,
        gemm2_weights=codes(held, H, I, device=device),
        gemm2_weights_scale=torch.rand(held, H // 128, I // 128, device=device) / I**0.5,
        local_expert_offset=group.local_expert_offset,
        routed_scaling_factor=2.5,
    )


def step_of(name: str) -> str | None:
    return next((step for part, step in STEPS.items() if part in name), None)


def profiled(bound: blockmoe.expert_parallel.BoundEpGroup, step: list[torch.Tensor]) -> list[Run]:
    for _ in range(WARM_UP):
        bound.run(*step)
    torch.cuda.synchronize()
    dist.barrier()
    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as traced:
        bound.run(*step)
        torch.cuda.synchronize()
    events = [event for event in traced.profiler.kineto_results.events() if event.device_type() == DeviceType.CUDA]
    runs = [
        Run(step_name, event.device_resource_id(), event.start_ns() / 1e3, event.end_ns() / 1e3)
        for event in events
        if (step_name := step_of(event.name())) is not None
    ]
    first = min(run.begin for run in runs)
    return sorted(
        (dataclasses.replace(run, begin=run.begin - first, end=run.end - first) for run in runs), key=lambda run: run.begin
    )


def draw(runs: list[Run], title: str, file: pathlib.Path) -> None:
    streams = sorted({run.stream for run in runs}, key=lambda stream: min(run.begin for run in runs if run.stream == stream))
    figure, axes = plt.subplots(figsize=(10, 1.0 + 0.5 * len(streams)))
    labelled = set()
    for row, stream in enumerate(streams):
        for run in (run for run in runs if run.stream == stream):
            label = None if run.step in labelled else run.step
            labelled.add(run.step)
            colour = COLOURS.get(run.step, "#b0b0b0")
            axes.broken_barh([(run.begin, run.end - run.begin)], (row - 0.35, 0.7), color=colour, label=label)
    axes.set_yticks(range(len(streams)), ["caller's stream", "group's stream", *map(str, streams[2:])][: len(streams)])
    axes.invert_yaxis()
    axes.set_xlabel("microseconds")
    axes.set_title(title, fontsize=9)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.35), ncols=len(labelled), fontsize=8, frameon=False)
    figure.savefig(file, bbox_inches="tight", metadata={"Creator": None, "Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=8192, help="of a rank")
    parser.add_argument("--way", choices=["gather", "exchange"], default="exchange")
    parser.add_argument("--svg", type=pathlib.Path, help="where the drawing goes")
    wanted = parser.parse_args()

    dist.init_process_group("nccl")
    rank, ranks = dist.get_rank(), dist.get_world_size()
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    torch.cuda.set_device(device)
    torch.manual_seed(rank)
    group = EpGroup(None, wanted.tokens, device, experts=E, way=wanted.way)
    bound = group.bind(layer(group, E // ranks, device))
    step = [
        torch.randn(wanted.tokens, E, device=device),
        codes(wanted.tokens, H, device=device),
        torch.rand(H // 128, wanted.tokens, device=device),
    ]
    runs = profiled(bound, step)
    group.check()
    if rank == 0:
        print("| stream | kernel | begin us | end us |\n|---|---|---|---|")
        for run in runs:
            print(f"| {run.stream} | {run.step} | {run.begin:.0f} | {run.end:.0f} |")
        if wanted.svg is not None:
            where = f"{ranks} x {torch.cuda.get_device_name(device)}"
            draw(runs, f"{wanted.way}, {wanted.tokens} tokens a rank, {where}, rank 0", wanted.svg)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
