"""SGLang's DeepGEMM experts behind its fused router: rows scattered, product, SwiGLU and quantisation, product, sum.

Composed as its runner does for a rank that knows no counts on the host: masked, where every expert has room for all T rows,
or compact, whose buffers have room for all picks being local. The faster of the two for each T: masked, whose buffers come to
17 GB at T = 16384, where that much is free. The activations are e4m3 already, so that the runner's own first quantisation is
not in it.
"""

import functools
from importlib import metadata

import torch

import layer as layers

from . import Peer, deepgemm, sglang


class SglangDeepGemm(Peer):
    title = "SGLang, DeepGEMM experts"

    def __init__(self, layer):
        super().__init__(layer)
        self.deep_gemm = deepgemm.load()
        self.router = sglang.Router(layer)
        from sglang.kernels.ops.activation import activation
        from sglang.kernels.ops.moe import ep_moe_kernels, triton_pad_expert_counts
        from sglang.kernels.ops.quantization import fp8_kernel, per_token_group_quant

        self.kernels, self.pad_expert_counts = ep_moe_kernels, triton_pad_expert_counts.pad_expert_counts
        self.silu_and_mul = activation.silu_and_mul
        self.quantise_rows = fp8_kernel.sglang_per_token_group_quant_fp8
        self.quantise = per_token_group_quant.per_token_group_quant
        w13, w13_scale = layer.gate_first
        self.w13, self.w2 = (w13.view(layers.E4M3), w13_scale), (layer.w2, layer.w2_scale)
        g = layer.geometry
        self.local = torch.full((g.experts,), -1, dtype=torch.int32, device=layer.device)
        self.local[: g.local_experts] = torch.arange(g.local_experts, device=layer.device)

    def versions(self):
        return f"sglang {metadata.version('sglang')}, sgl-deep-gemm {metadata.version('sgl-deep-gemm')}"

    def candidates(self, step):
        ways = {"compact": self._compact, "masked": self._masked}
        return {name: functools.partial(self._call, step, way) for name, way in ways.items()}

    def _call(self, step, way):
        g = self.layer.geometry
        weights, picked = self.router(step.logits)
        local = self.local[picked]
        rows, place = way(step, local)
        self.output = torch.empty(step.tokens, g.hidden, dtype=torch.bfloat16, device=self.layer.device)
        self.kernels.post_reorder_deepgemm(rows, self.output, place, local, weights, g.top_k, step.tokens, g.hidden, 1.0)

    def _empty(self, *shape, dtype=torch.bfloat16):
        return torch.empty(*shape, dtype=dtype, device=self.layer.device)

    def _masked(self, step, local):
        g, t, scale = self.layer.geometry, step.tokens, step.hidden_scale_by_token
        experts, columns = g.local_experts, g.hidden // layers.BLOCK
        room = (t // 256 + 1) * 256
        expected = max(1, -(-t * g.top_k // g.experts))
        counts, place = self.kernels.fused_moe_dispatch_index(local, experts, room)
        a1 = self._empty(experts, room, g.hidden, dtype=layers.E4M3)
        a1_scale = self._empty(experts, columns, room, dtype=torch.float32)
        self.kernels.fill_gateup_input_triton_kernel[(t,)](
            step.hidden, scale, a1, a1_scale, place, local, g.top_k, g.hidden, columns, room, scale.stride(0), scale.stride(1),
            BLOCK_SIZE=1024, IS_FP8=True, SCALE_MN_MAJOR=True,
        )  # fmt: skip
        product = self.deep_gemm.m_grouped_fp8_fp4_gemm_nt_masked
        gate_and_up = self._empty(experts, room, 2 * g.intermediate)
        product((a1, a1_scale.transpose(1, 2)), self.w13, gate_and_up, counts, expected)
        a2 = self.quantise(
            gate_and_up, group_size=layers.BLOCK, fuse_silu_and_mul=True, masked_m=counts, column_major_scales=True
        )
        rows = self._empty(experts, room, g.hidden)
        product(a2, self.w2, rows, counts, expected)
        return rows, place

    def _compact(self, step, local):
        g, unit = self.layer.geometry, layers.BLOCK  # rows of an expert begin at a multiple of it
        picks = local.numel()
        most_experts = min(picks, g.local_experts)
        total = unit * (most_experts + (picks - most_experts) // unit)
        counts, _ = self.kernels.fused_moe_dispatch_index(local, g.local_experts, 1)
        padded = self.pad_expert_counts(counts, unit, total)
        a1 = self._empty(total, g.hidden, dtype=layers.E4M3)
        a1_scale = torch.zeros(total, g.hidden // layers.BLOCK, device=self.layer.device)
        begins = self._empty(g.local_experts, dtype=torch.int32)
        expert_of_row, place = self._empty(total, dtype=torch.int32), torch.empty_like(local)
        self.kernels.ep_scatter(
            step.hidden, step.hidden_scale_by_token, local, padded, counts, begins, a1, a1_scale, expert_of_row, place,
            quant_block_size=layers.BLOCK, expert_alignment=unit,
        )  # fmt: skip
        product, aligned = self.deep_gemm.m_grouped_fp8_fp4_gemm_nt_contiguous, self.kernels.tma_align_input_scale
        gate_and_up = self._empty(total, 2 * g.intermediate)
        product((a1, aligned(a1_scale)), self.w13, gate_and_up, expert_of_row)
        intermediate = self._empty(total, g.intermediate)
        self.silu_and_mul(gate_and_up, intermediate)
        a2, a2_scale = self.quantise_rows(intermediate, layers.BLOCK)
        rows = self._empty(total, g.hidden)
        product((a2, aligned(a2_scale)), self.w2, rows, expert_of_row)
        return rows, place
