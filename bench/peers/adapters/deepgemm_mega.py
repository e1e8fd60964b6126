"""DeepGEMM's mega-MoE for sm_90, one rank: SGLang's router, the step staged into its buffer, one kernel for the rest.

Its own staging kernel takes BF16 only, so e4m3 activations go in by copies: one of each tensor or one kernel for all, the
faster for each T. One rank needs no process group: its "symmetric" buffer is plain memory, and the low-level function takes
its address. Room is for T tokens, rounded up to its alignment.
"""

import functools
from importlib import metadata

import torch

import layer as layers

from . import Peer, deepgemm, sglang


class DeepGemmMega(Peer):
    title = "DeepGEMM mega-MoE"

    def __init__(self, layer):
        super().__init__(layer)
        self.deep_gemm = deepgemm.load()
        self.router = sglang.Router(layer)
        w13, w13_scale = layer.gate_first
        (w13, w13_scale), (w2, w2_scale) = self.deep_gemm.transform_weights_for_mega_moe_sm90(
            (w13, w13_scale), (layer.w2, layer.w2_scale)
        )
        self.weights = (w13.view(layers.E4M3), w13_scale, w2, w2_scale)
        g = layer.geometry
        self.local = torch.full((g.experts,), -1, dtype=torch.int64, device=layer.device)
        self.local[: g.local_experts] = torch.arange(g.local_experts, device=layer.device)

    def versions(self):
        return f"sgl-deep-gemm {metadata.version('sgl-deep-gemm')}, router of sglang {metadata.version('sglang')}"

    def candidates(self, step):
        g, t, low_level = self.layer.geometry, step.tokens, self.deep_gemm._C
        self.buffer = None  # of the step before
        unit = int(low_level.get_token_alignment_for_mega_moe())
        room = (t + unit - 1) // unit * unit
        size, cut = low_level.get_symm_buffer_size_for_sm90_mega_moe(
            1, g.local_experts, room, g.top_k, g.hidden, g.intermediate, True, "swiglu"
        )
        self.buffer = torch.zeros(int(size), dtype=torch.int8, device=self.layer.device)
        x, x_scale, ids, weights = (torch.from_dlpack(part) for part in list(cut(self.buffer))[:4])
        ids.fill_(-1)
        x, x_scale, ids, weights = x.view(torch.int8)[:t], x_scale[:t], ids[:t], weights[:t]
        hidden, scale = step.hidden.view(torch.int8), step.hidden_scale_by_token
        self.output = torch.empty(t, g.hidden, dtype=torch.bfloat16, device=self.layer.device)

        def separate(picked_weights):
            weights.copy_(picked_weights)
            x.copy_(hidden)
            x_scale.copy_(scale)

        def together(picked_weights):  # of one type, so that it is one kernel
            sources = [hidden.view(torch.int32), scale.view(torch.int32), picked_weights.view(torch.int32)]
            torch._foreach_copy_([x.view(torch.int32), x_scale.view(torch.int32), weights.view(torch.int32)], sources)

        def call(stage):
            picked_weights, picked = self.router(step.logits)
            torch.index_select(self.local, 0, picked.view(-1), out=ids.view(-1))
            stage(picked_weights)
            low_level.fp8_mega_moe(
                self.output, *self.weights, None, self.buffer, [self.buffer.data_ptr()], 0, room,
                g.local_experts, g.top_k, (128, 128, 128), "swiglu", None, True,
            )  # fmt: skip

        ways = {"separate copies": separate, "one copy": together}
        return {name: functools.partial(call, stage) for name, stage in ways.items()}
