"""The layer that every peer computes: DeepSeek-V3's on one of eight ranks, its inputs, its routing and its reference.

All tensors are on the GPU. The inputs are the same in every process: logits come from the CPU's generator, the rest from
the GPU's, each with a seed of its own, and the steps of different T share their first rows.
"""

import dataclasses
import functools

import torch

E4M3 = torch.float8_e4m3fn
BLOCK = 128


@dataclasses.dataclass(frozen=True)
class Geometry:
    experts: int = 256
    local_experts: int = 32
    hidden: int = 7168
    intermediate: int = 2048
    top_k: int = 8
    n_group: int = 8
    topk_group: int = 4
    routed_scaling_factor: float = 2.5

    @property
    def expert_bytes(self) -> int:
        """Weights of an expert, which each call with a row for it must read."""
        return 3 * self.intermediate * self.hidden

    @property
    def row_flops(self) -> int:
        return 6 * self.intermediate * self.hidden


def quantise(values: torch.Tensor, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """e4m3 codes and scales of blocks of `rows` x 128 of a matrix in f32."""
    m, n = values.shape
    blocks = values.view(m // rows, rows, n // BLOCK, BLOCK)
    scale = blocks.abs().amax(dim=(1, 3)).clamp_min(2.0**-100) / 448.0
    codes = (blocks / scale[:, None, :, None]).clamp(-448, 448).to(E4M3).view(m, n)
    return codes, scale


def dequantise(codes: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """f32 [m, n] of codes [m, n] and scales [m / rows, n / 128]."""
    rows = codes.shape[0] // scale.shape[0]
    return codes.float() * scale.repeat_interleave(rows, 0).repeat_interleave(BLOCK, 1)


def route(logits: torch.Tensor, g: Geometry) -> tuple[torch.Tensor, torch.Tensor]:
    """Global ids [T, top_k] int32 and weights [T, top_k] f32 of a layer without bias."""
    t = logits.shape[0]
    score = logits.sigmoid()
    groups = score.view(t, g.n_group, -1)
    kept = groups.topk(2, dim=-1).values.sum(-1).topk(g.topk_group, dim=-1).indices
    mask = torch.zeros(t, g.n_group, dtype=torch.bool, device=logits.device).scatter_(1, kept, True)
    choice = groups.masked_fill(~mask[:, :, None], -1.0).view(t, g.experts)
    ids = choice.topk(g.top_k, dim=-1).indices
    weights = score.gather(1, ids)
    weights = weights / (weights.sum(-1, keepdim=True) + 1e-20) * g.routed_scaling_factor
    return ids.int(), weights


@dataclasses.dataclass
class Step:
    """The inputs of a call of T tokens, and what its routing came to."""

    tokens: int
    logits: torch.Tensor
    """[T, experts] f32"""
    hidden: torch.Tensor
    """[T, hidden] e4m3"""
    hidden_scale: torch.Tensor
    """[hidden / 128, T] f32, T the fast axis"""
    ids: torch.Tensor
    """[T, top_k] int32, global numbers of experts"""
    weights: torch.Tensor
    """[T, top_k] f32"""
    local_ids: torch.Tensor
    """[T, top_k] int32, -1 where the expert is on another rank"""
    rows_of_expert: list[int]

    @property
    def rows(self) -> int:
        return sum(self.rows_of_expert)

    @property
    def active(self) -> list[int]:
        return [e for e, rows in enumerate(self.rows_of_expert) if rows]

    @functools.cached_property
    def hidden_scale_by_token(self) -> torch.Tensor:
        """[T, hidden / 128] f32, for peers that want the token's scales together."""
        return self.hidden_scale.t().contiguous()

    @functools.cached_property
    def hidden_bf16(self) -> torch.Tensor:
        """[T, hidden] bf16, for peers that quantise it themselves."""
        return dequantise(self.hidden, self.hidden_scale_by_token).bfloat16()


class Layer:
    """Weights N(0, 0.02) and activations N(0, 1), quantised as a checkpoint and an engine do; local experts are 0 to 31."""

    def __init__(self, max_tokens: int, geometry: Geometry | None = None, device: str = "cuda") -> None:
        self.geometry = g = geometry or Geometry()
        self.device = torch.device(device)
        generator = torch.Generator(self.device).manual_seed(2)

        def weights(rows: int, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
            codes = torch.empty(g.local_experts, rows, columns, dtype=E4M3, device=self.device)
            scales = torch.empty(g.local_experts, rows // BLOCK, columns // BLOCK, device=self.device)
            for e in range(g.local_experts):
                drawn = torch.randn(rows, columns, generator=generator, device=self.device) * 0.02
                codes[e], scales[e] = quantise(drawn, BLOCK)
            return codes, scales

        self.w13, self.w13_scale = weights(2 * g.intermediate, g.hidden)
        """[L, 2I, H] e4m3, up rows before gate rows, and [L, 2I/128, H/128] f32"""
        self.w2, self.w2_scale = weights(g.hidden, g.intermediate)
        """[L, H, I] e4m3 and [L, H/128, I/128] f32"""
        drawn = torch.randn(max_tokens, g.hidden, generator=generator, device=self.device)
        self._hidden, self._hidden_scale = quantise(drawn, 1)
        self._logits = torch.randn(16384, g.experts, generator=torch.Generator().manual_seed(581))[:max_tokens].to(self.device)

    @functools.cached_property
    def gate_first(self) -> tuple[torch.Tensor, torch.Tensor]:
        """w13 and its scales with gate rows before up rows, as most packages hold them."""
        return tuple(torch.cat(t.chunk(2, dim=1)[::-1], dim=1).contiguous() for t in (self.w13.view(torch.uint8), self.w13_scale))

    def step(self, tokens: int) -> Step:
        g = self.geometry
        logits = self._logits[:tokens].contiguous()
        ids, weights = route(logits, g)
        local = torch.where(ids < g.local_experts, ids, -1)
        rows = torch.bincount(local[local >= 0].long(), minlength=g.local_experts).tolist()
        hidden, scale = self._hidden[:tokens].clone(), self._hidden_scale[:tokens].t().contiguous()
        return Step(tokens, logits, hidden, scale, ids, weights, local, rows)

    def active_ranges(self, step: Step) -> list[tuple[int, int]]:
        """Address and bytes of the weights of each expert that has a row: what any implementation must read."""
        g = self.geometry
        w13, w2 = 2 * g.intermediate * g.hidden, g.hidden * g.intermediate
        return [
            part
            for e in step.active
            for part in ((self.w13.data_ptr() + e * w13, w13), (self.w2.data_ptr() + e * w2, w2))
        ]


class Reference:
    """The layer in f32, without requantisation of the intermediate, for up to `most` tokens that have a local pick."""

    def __init__(self, layer: Layer, step: Step, most: int = 24) -> None:
        torch.backends.cuda.matmul.allow_tf32 = False
        g = layer.geometry
        with_pick = (step.local_ids >= 0).any(1).nonzero().flatten()
        places = torch.linspace(0, max(0, len(with_pick) - 1), min(most, len(with_pick)), device=layer.device).long()
        self.tokens = with_pick[places]
        self.without_pick = (step.local_ids < 0).all(1).nonzero().flatten()
        x = dequantise(step.hidden[self.tokens], step.hidden_scale.t()[self.tokens])
        ids, weights = step.local_ids[self.tokens], step.weights[self.tokens]
        self.output = torch.zeros(len(self.tokens), g.hidden, device=layer.device)
        for e in ids[ids >= 0].unique().tolist():
            token, pick = (ids == e).nonzero(as_tuple=True)
            up, gate = (x[token] @ dequantise(layer.w13[e], layer.w13_scale[e]).t()).chunk(2, dim=1)
            c = torch.nn.functional.silu(gate) * up
            o = c @ dequantise(layer.w2[e], layer.w2_scale[e]).t()
            self.output.index_add_(0, token, o * weights[token, pick, None])

    def error(self, output: torch.Tensor) -> float:
        """Relative error in norm; infinite where a token without a local pick has anything but zeros."""
        if self.without_pick.numel() and output[self.without_pick[:64]].float().abs().max() != 0:
            return float("inf")
        if not len(self.tokens):
            return 0.0
        difference = (output[self.tokens].float() - self.output).norm() / self.output.norm()
        return float(difference)  # NaN where the output has one: no comparison holds for it
