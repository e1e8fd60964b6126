"""DeepGEMM's two grouped products alone: rows already gathered, nothing between them, nothing combined.

Masked layout (a fixed number of rows an expert, of which a count is valid) or contiguous (each expert's rows padded to 128),
the faster of the two for each T. The second product's rows are made once, from the first one's.
"""

import dataclasses
import functools
from collections.abc import Callable
from importlib import metadata

import torch

import layer as layers

from . import Peer, deepgemm

ALIGNMENT = 128  # rows of an expert in the contiguous layout
ROOM = 256  # in the masked one: whole tiles, whatever their height, so that none reaches into the next expert


def swiglu_rows(gate_and_up: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The second product's rows, [M, I] e4m3 and [M, I/128] f32, of the first one's, [M, up | gate]."""
    up, gate = gate_and_up.float().chunk(2, dim=-1)
    values = torch.nn.functional.silu(gate) * up
    return layers.quantise(values, 1)


@dataclasses.dataclass(frozen=True)
class Way:
    """One layout: what is timed, what it writes, the second product's rows, and where each pick's row is in all of them."""

    call: Callable[[], None]
    gate_and_up: torch.Tensor
    rows: torch.Tensor
    codes: torch.Tensor
    place: tuple[torch.Tensor, ...]


class DeepGemmProducts(Peer):
    title = "DeepGEMM, two grouped products"
    part = "products"

    def __init__(self, layer):
        super().__init__(layer)
        self.deep_gemm = deepgemm.load()
        self.w13, self.w2 = (layer.w13, layer.w13_scale), (layer.w2, layer.w2_scale)

    def versions(self):
        return f"sgl-deep-gemm {metadata.version('sgl-deep-gemm')}"

    def candidates(self, step):
        self.step = step
        pairs = [(step.local_ids == e).nonzero(as_tuple=True) for e in range(self.layer.geometry.local_experts)]
        self.token = torch.cat([token for token, _ in pairs])
        self.weight = step.weights[self.token, torch.cat([pick for _, pick in pairs])]
        ways = {"contiguous": self._contiguous}
        if max(step.rows_of_expert) <= 4096:  # its buffer has room for as many rows in every expert
            ways["masked"] = self._masked
        prepared = {}

        def call(name):
            if name not in prepared:  # not before it is tried: what fails there costs this way alone
                prepared[name] = ways[name]()
            self.last = prepared[name]
            self.last.call()

        return {name: functools.partial(call, name) for name in ways}

    def spoil(self):
        for written in (self.last.gate_and_up, self.last.rows):
            written.fill_(float("nan"))

    def result(self):
        """Combined here, outside of what is timed. NaN where the first product's rows are not those that the second one got."""
        codes, _ = swiglu_rows(self.last.gate_and_up[self.last.place])
        same = (codes.view(torch.uint8) == self.last.codes.view(torch.uint8)[self.last.place]).all(1, keepdim=True)
        rows = torch.where(same, self.last.rows[self.last.place].float() * self.weight[:, None], float("nan"))
        output = torch.zeros(self.step.tokens, rows.shape[1], device=rows.device)
        return output.index_add_(0, self.token, rows)

    def _contiguous(self):
        g, step, device = self.layer.geometry, self.step, self.layer.device
        padded = [(rows + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT for rows in step.rows_of_expert]
        total = sum(padded)
        expert = torch.full((total,), -1, dtype=torch.int32, device=device)
        place, begin = [], 0
        for e, (rows, room) in enumerate(zip(step.rows_of_expert, padded, strict=True)):
            expert[begin : begin + rows] = e
            place.append(torch.arange(begin, begin + rows, device=device))
            begin += room
        place = torch.cat(place)
        hidden = torch.zeros(total, g.hidden, dtype=torch.uint8, device=device)
        hidden[place] = step.hidden.view(torch.uint8)[self.token]
        scale = torch.zeros(total, g.hidden // layers.BLOCK, device=device)
        scale[place] = step.hidden_scale_by_token[self.token]
        a1 = (hidden.view(layers.E4M3), deepgemm.with_rows_fastest(scale))
        d1 = torch.zeros(total, 2 * g.intermediate, dtype=torch.bfloat16, device=device)
        d2 = torch.zeros(total, g.hidden, dtype=torch.bfloat16, device=device)
        product = self.deep_gemm.m_grouped_fp8_fp4_gemm_nt_contiguous
        product(a1, self.w13, d1, expert)
        codes, scale = swiglu_rows(d1)
        a2 = (codes, deepgemm.with_rows_fastest(scale))

        def call():
            product(a1, self.w13, d1, expert)
            product(a2, self.w2, d2, expert)

        return Way(call, d1, d2, codes, (place,))

    def _masked(self):
        g, step, device = self.layer.geometry, self.step, self.layer.device
        room = (max(step.rows_of_expert) + ROOM - 1) // ROOM * ROOM
        counts = torch.tensor(step.rows_of_expert, dtype=torch.int32, device=device)
        expected = max(1, -(-step.rows // max(1, len(step.active))))
        expert = torch.repeat_interleave(torch.arange(g.local_experts, device=device), counts.long())
        row = torch.cat([torch.arange(rows, device=device) for rows in step.rows_of_expert])
        hidden = torch.zeros(g.local_experts, room, g.hidden, dtype=torch.uint8, device=device)
        hidden[expert, row] = step.hidden.view(torch.uint8)[self.token]
        scale = torch.zeros(g.local_experts, room, g.hidden // layers.BLOCK, device=device)
        scale[expert, row] = step.hidden_scale_by_token[self.token]
        a1 = (hidden.view(layers.E4M3), deepgemm.with_rows_fastest(scale))
        d1 = torch.zeros(g.local_experts, room, 2 * g.intermediate, dtype=torch.bfloat16, device=device)
        d2 = torch.zeros(g.local_experts, room, g.hidden, dtype=torch.bfloat16, device=device)
        product = self.deep_gemm.m_grouped_fp8_fp4_gemm_nt_masked
        product(a1, self.w13, d1, counts, expected)
        codes, scale = swiglu_rows(d1.view(-1, 2 * g.intermediate))
        a2 = (
            codes.view(g.local_experts, room, -1),
            deepgemm.with_rows_fastest(scale.view(g.local_experts, room, -1)),
        )

        def call():
            product(a1, self.w13, d1, counts, expected)
            product(a2, self.w2, d2, counts, expected)

        return Way(call, d1, d2, a2[0], (expert, row))
