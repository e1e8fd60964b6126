"""A small layer as DeepSeek-V3 has them: gate, quantisation, routed experts by blockmoe, one shared expert. Needs PyTorch.

The same module runs eagerly, under torch.compile and exported. Weights are quantised once, activations at each step; the result
is held against the layer in float32 without quantisation.
"""

import torch
from torch import Tensor, nn

import blockmoe.torch  # registers torch.ops.blockmoe

BLOCK = 128  # values that share a scale
E4M3_MAX = 448.0


def quantise_tokens(x: Tensor) -> tuple[Tensor, Tensor]:
    """[T, H] -> e4m3 [T, H] and f32 [H/128, T]: one scale for 128 values of a token, T the fast axis."""
    blocks = x.float().unflatten(1, (-1, BLOCK))
    scale = blocks.abs().amax(2).clamp(min=1e-10) / E4M3_MAX
    codes = (blocks / scale[:, :, None]).to(torch.float8_e4m3fn)
    return codes.flatten(1), scale.T.contiguous()


def quantise_weights(w: Tensor) -> tuple[Tensor, Tensor]:
    """[L, N, K] -> e4m3 [L, N, K] and f32 [L, N/128, K/128]: one scale a block of 128 x 128."""
    blocks = w.unflatten(2, (-1, BLOCK)).unflatten(1, (-1, BLOCK))  # [L, N/128, 128, K/128, 128]
    scale = blocks.abs().amax((2, 4)).clamp(min=1e-10) / E4M3_MAX
    codes = (blocks / scale[:, :, None, :, None]).to(torch.float8_e4m3fn)
    return codes.reshape(w.shape), scale


class DeepseekMoE(nn.Module):
    def __init__(self, hidden: int, intermediate: int, experts: int, *, top_k: int, n_group: int, topk_group: int) -> None:
        super().__init__()
        self.routing = {"top_k": top_k, "n_group": n_group, "topk_group": topk_group}
        self.gate = nn.Linear(hidden, experts, bias=False, dtype=torch.float32)
        self.register_buffer("routing_bias", 0.01 * torch.randn(experts))
        w13 = torch.randn(experts, 2 * intermediate, hidden) / hidden**0.5  # up rows, then gate rows
        w2 = torch.randn(experts, hidden, intermediate) / intermediate**0.5
        for name, weight in (("gemm1", w13), ("gemm2", w2)):
            codes, scale = quantise_weights(weight)
            self.register_buffer(f"{name}_weights", codes)
            self.register_buffer(f"{name}_weights_scale", scale)
        self.shared_up_gate = nn.Linear(hidden, 2 * intermediate, bias=False)
        self.shared_down = nn.Linear(intermediate, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[T, H] float32 -> [T, H] float32"""
        codes, scale = quantise_tokens(x)
        routed = torch.ops.blockmoe.fused_moe(
            self.gate(x),
            self.routing_bias,
            codes,
            scale,
            self.gemm1_weights,
            self.gemm1_weights_scale,
            self.gemm2_weights,
            self.gemm2_weights_scale,
            0,
            2.5,
            **self.routing,
        )
        up, gate = self.shared_up_gate(x).chunk(2, dim=1)
        return routed.float() + self.shared_down(nn.functional.silu(gate) * up)

    def unquantised(self, x: Tensor) -> Tensor:
        """The same in float32, every expert for every token, from the weights as they were rounded."""
        s = torch.sigmoid(self.gate(x))
        b = s + self.routing_bias
        groups = b.unflatten(1, (self.routing["n_group"], -1))
        kept = groups.topk(2, dim=2).values.sum(2).topk(self.routing["topk_group"], dim=1).indices
        is_kept = torch.zeros(groups.shape[:2], dtype=torch.bool).scatter(1, kept, True)
        ids = b.masked_fill(~is_kept.repeat_interleave(groups.shape[2], 1), -torch.inf).topk(self.routing["top_k"], 1).indices
        picked = s.gather(1, ids)
        weights = torch.zeros_like(s).scatter(1, ids, 2.5 * picked / picked.sum(1, keepdim=True))
        spread = lambda scale: scale.repeat_interleave(BLOCK, 1).repeat_interleave(BLOCK, 2)  # noqa: E731
        w13 = self.gemm1_weights.float() * spread(self.gemm1_weights_scale)
        w2 = self.gemm2_weights.float() * spread(self.gemm2_weights_scale)
        up, gate = torch.einsum("th,enh->ten", x, w13).chunk(2, dim=2)
        routed = torch.einsum("te,ten,ehn->th", weights, nn.functional.silu(gate) * up, w2)
        up, gate = self.shared_up_gate(x).chunk(2, dim=1)
        return routed + self.shared_down(nn.functional.silu(gate) * up)


@torch.inference_mode()
def main() -> None:
    torch.manual_seed(0)
    layer = DeepseekMoE(256, 128, 16, top_k=4, n_group=4, topk_group=2).eval()
    x = torch.randn(33, 256)
    output = layer(x)
    error = (output - layer.unquantised(x)).norm() / output.norm()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x), output)
    assert error < 0.05, error  # e4m3 of activations and intermediate: 0.023 each
    print(f"relative error against float32: {error:.3f}")


if __name__ == "__main__":
    main()
