"""The layer in fp32, as the reference of a definition of flashinfer-bench: docs/numerics.md's contract, the intermediate not rounded.

Nothing is accumulated in less than fp32, and weights are widened expert by expert.
"""

import torch

BLOCK, TOP_K, GROUPS, KEPT_GROUPS = 128, 8, 8, 4


def run(
    routing_logits,
    routing_bias,
    hidden_states,
    hidden_states_scale,
    gemm1_weights,
    gemm1_weights_scale,
    gemm2_weights,
    gemm2_weights_scale,
    local_expert_offset,
    routed_scaling_factor,
):
    experts, factors = pick(routing_logits, routing_bias, routed_scaling_factor)
    tokens = hidden_states.float() * hidden_states_scale.T.repeat_interleave(BLOCK, dim=1)
    output = torch.zeros_like(tokens)
    for local in range(len(gemm1_weights)):
        token, place = torch.nonzero(experts == local_expert_offset + local, as_tuple=True)
        if len(token) == 0:
            continue
        both = tokens[token] @ widened(gemm1_weights[local], gemm1_weights_scale[local]).T
        up, gate = both.chunk(2, dim=1)
        rows = (torch.nn.functional.silu(gate) * up) @ widened(gemm2_weights[local], gemm2_weights_scale[local]).T
        output[token] += rows * factors[token, place].unsqueeze(1)  # a token stands once in an expert's rows
    return output.to(torch.bfloat16)


def pick(logits, bias, routed_scaling_factor):
    """Each token's experts [T, 8] and their factors; the bias counts for the choice only."""
    s = logits.float().sigmoid()
    b = s + bias.float()
    groups = b.unflatten(1, (GROUPS, -1))
    kept = groups.topk(2, dim=2).values.sum(dim=2).topk(KEPT_GROUPS, dim=1).indices
    dropped = torch.ones(groups.shape[:2], dtype=torch.bool, device=b.device).scatter(1, kept, False)
    experts = groups.masked_fill(dropped.unsqueeze(2), -torch.inf).flatten(1).topk(TOP_K, dim=1).indices
    picked = s.gather(1, experts)
    return experts, picked / (picked.sum(dim=1, keepdim=True) + 1e-20) * routed_scaling_factor


def widened(codes, scale):
    """e4m3 [M, N] and a scale for each 128x128 block: fp32."""
    blocks = codes.float().unflatten(1, (-1, BLOCK)).unflatten(0, (-1, BLOCK))
    return (blocks * scale[:, None, :, None]).flatten(2).flatten(0, 1)
