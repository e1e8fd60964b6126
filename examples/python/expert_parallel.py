"""A layer over all ranks that torchrun starts, held against one process that has all of its experts. Needs PyTorch.

    torchrun --nproc-per-node 2 examples/python/expert_parallel.py               on the CPU, over gloo
    torchrun --nproc-per-node 2 examples/python/expert_parallel.py --device cuda  a GPU a rank, over NCCL

Each rank has its share of the experts and tokens of its own, as many as it likes. Here every rank also makes the whole layer, from
one seed, for the comparison's sake.
"""

import argparse
import os

import torch
import torch.distributed as dist

import blockmoe
from blockmoe.expert_parallel import EpGroup

E, H, I, MAX_TOKENS = 24, 256, 128, 64
GEOMETRY = {"experts": E, "hidden": H, "intermediate": I, "top_k": 4, "n_group": 4, "topk_group": 2}


def codes(*shape: int) -> torch.Tensor:
    return torch.randn(shape).clamp(-2, 2).to(torch.float8_e4m3fn)


def whole_layer(device: torch.device) -> blockmoe.Weights:
    return blockmoe.Weights(
        gemm1_weights=codes(E, 2 * I, H).to(device),
        gemm1_weights_scale=torch.rand(E, 2 * I // 128, H // 128, device=device) / H**0.5,
        gemm2_weights=codes(E, H, I).to(device),
        gemm2_weights_scale=torch.rand(E, H // 128, I // 128, device=device) / I**0.5,
        routing_bias=(torch.randn(E) / 10).to(device),
        routed_scaling_factor=2.5,
    )


def share_of(layer: blockmoe.Weights, group: EpGroup, rank: int, ranks: int) -> blockmoe.Weights:
    held = slice(rank * E // ranks, (rank + 1) * E // ranks)
    return blockmoe.Weights(
        gemm1_weights=layer.gemm1_weights[held],
        gemm1_weights_scale=layer.gemm1_weights_scale[held],
        gemm2_weights=layer.gemm2_weights[held],
        gemm2_weights_scale=layer.gemm2_weights_scale[held],
        routing_bias=layer.routing_bias,
        local_expert_offset=group.local_expert_offset,
        routed_scaling_factor=layer.routed_scaling_factor,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    on_gpu = parser.parse_args().device == "cuda"

    # Set-up goes through the group's store, whatever the group's own backend.
    dist.init_process_group("nccl" if on_gpu else "gloo")
    rank, ranks = dist.get_rank(), dist.get_world_size()
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)

    torch.manual_seed(0)
    layer = whole_layer(device)
    group = EpGroup(None, MAX_TOKENS, device, **GEOMETRY)  # once a model
    bound = group.bind(share_of(layer, group, rank, ranks))  # once a layer
    one_process = blockmoe.Plan(MAX_TOKENS, device, **GEOMETRY, local_experts=E).bind(layer)

    torch.manual_seed(1 + rank)
    for tokens in (5 + rank, 0 if rank == 0 else 3, MAX_TOKENS):
        logits = torch.randn(tokens, E).to(device)
        hidden = codes(tokens, H).to(device)
        scale = torch.rand(H // 128, tokens).to(device)
        output = bound.run(logits, hidden, scale)
        group.check()
        assert torch.equal(output, bound.run(logits, hidden, scale)), "other bits from run to run"
        expected = one_process.run(logits, hidden, scale).float()
        error = ((output.float() - expected).norm() / expected.norm().clamp(min=1e-30)).item()
        assert error < 0.005, error
        print(f"rank {rank} of {ranks}, {tokens} tokens, {group.way()}: relative error {error:.0e} against one process")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
