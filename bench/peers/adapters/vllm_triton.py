"""vLLM's Triton experts behind its grouped_topk. Its wheel brings a compiled extension and pins its own PyTorch."""

from importlib import metadata

import torch

import layer as layers

from . import Peer


class VllmTriton(Peer):
    title = "vLLM, Triton experts"
    takes = "bf16"

    def __init__(self, layer):
        super().__init__(layer)
        from vllm.model_executor.layers.fused_moe import fused_experts, grouped_topk
        from vllm.model_executor.layers.fused_moe.config import fp8_w8a8_moe_quant_config

        self.fused_experts, self.grouped_topk = fused_experts, grouped_topk
        w13, w13_scale = layer.gate_first
        self.w13 = w13.view(layers.E4M3)
        self.quant = fp8_w8a8_moe_quant_config(w1_scale=w13_scale, w2_scale=layer.w2_scale, block_shape=[128, 128])
        g = layer.geometry
        self.bias = torch.zeros(g.experts, device=layer.device)
        self.map = torch.full((g.experts,), -1, dtype=torch.int32, device=layer.device)
        self.map[: g.local_experts] = torch.arange(g.local_experts, device=layer.device)

    def versions(self):
        return f"vllm {metadata.version('vllm')}"

    def candidates(self, step):
        g = self.layer.geometry

        def call():
            weights, ids = self.grouped_topk(
                step.hidden_bf16,
                step.logits,
                g.top_k,
                renormalize=True,
                num_expert_group=g.n_group,
                topk_group=g.topk_group,
                scoring_func="sigmoid",
                routed_scaling_factor=g.routed_scaling_factor,
                e_score_correction_bias=self.bias,
            )
            self.output = self.fused_experts(
                step.hidden_bf16,
                self.w13,
                self.layer.w2,
                weights,
                ids,
                global_num_experts=g.experts,
                expert_map=self.map,
                quant_config=self.quant,
            )

        return {"as it chooses": call}
