"""SGLang's Triton experts behind its fused router: routing, the map to local experts, both products, sum.

The package has no tuned file for 32 experts of 2048 on an H200. Its file for 72 experts of 2048 is best or within 2.5% of
the best everywhere, so for each T the candidates are that file's entry for T, the one for as many rows an expert, and the
package's default; hand-made tiles were never faster by more. Its compiled align and sum kernels, which live in an extension
for another PyTorch, are replaced by its own JIT and Triton ones.
"""

import importlib
import json
import pathlib
from importlib import metadata

import torch

import layer as layers

from . import Peer, sglang

TUNED = "E=72,N=2048,device_name=NVIDIA_H200,dtype=fp8_w8a8,block_shape=[128, 128]{}.json"
DEFAULT = {"BLOCK_SIZE_M": 64, "BLOCK_SIZE_N": 128, "BLOCK_SIZE_K": 128, "GROUP_SIZE_M": 32, "num_warps": 4, "num_stages": 3}
SMALL = {"BLOCK_SIZE_M": 16, "BLOCK_SIZE_N": 128, "BLOCK_SIZE_K": 128, "GROUP_SIZE_M": 1, "num_warps": 4, "num_stages": 4}


def nearest(entries: dict[int, dict], tokens: float) -> dict:
    return entries[min(entries, key=lambda key: abs(key - tokens))]


class SglangTriton(Peer):
    title = "SGLang, Triton experts"

    def __init__(self, layer):
        super().__init__(layer)
        self.router = sglang.Router(layer)
        import sglang.kernels.ops.moe.moe_align as align
        import sglang.srt.layers.moe.moe_runner.triton_utils.fused_moe as fused_moe
        from sglang.kernels.ops.moe.fused_moe_triton_kernels import moe_sum_reduce_triton

        def jit_align(*arguments):
            align.moe_align_block_size(*arguments[:8])  # the ninth asks to ignore ids that are in no expert: never here

        # By name: its package has a function of the same name, which `import ... as` would find first.
        importlib.import_module(f"{sglang.RUNNER}.moe_align_block_size").sgl_moe_align_block_size = jit_align
        fused_moe.moe_sum_reduce = moe_sum_reduce_triton
        fused_moe.try_get_optimal_moe_config = lambda *_, **__: self._chosen()
        self.fused_moe = fused_moe
        configs = pathlib.Path(fused_moe.__file__).parent / "configs"
        self.tuned, self.tuned_down = (
            {int(k): v for k, v in json.loads(next(configs.glob(f"*/{glob_text(TUNED.format(end))}")).read_text()).items()}
            for end in ("", "_down")
        )
        w13, self.w13_scale = layer.gate_first
        self.w13 = w13.view(layers.E4M3)
        g = layer.geometry
        self.local = torch.full((g.experts,), -1, dtype=torch.int32, device=layer.device)
        self.local[: g.local_experts] = torch.arange(g.local_experts, device=layer.device)

    def versions(self):
        return f"sglang {metadata.version('sglang')}, triton {metadata.version('triton')}"

    def _chosen(self):
        up, down = self.config
        # Copies: the package takes entries out of what it is given. Both products share the rows of a tile.
        return dict(up), (None if down is None else {**down, "BLOCK_SIZE_M": up["BLOCK_SIZE_M"]}, None)

    def candidates(self, step):
        t = step.tokens
        # Activations are given in e4m3, so that nothing is quantised; of this tensor only the output's shape and type are read.
        like_output = torch.empty(t, self.layer.geometry.hidden, dtype=torch.bfloat16, device=self.layer.device)
        scale = step.hidden_scale_by_token

        def with_config(up, down):
            def call():
                self.config = (up, down)
                weights, picked = self.router(step.logits)
                local = self.local[picked]
                self.output = self.fused_moe.fused_experts_impl(
                    like_output,
                    self.w13,
                    self.layer.w2,
                    weights,
                    local,
                    use_fp8_w8a8=True,
                    w1_scale=self.w13_scale,
                    w2_scale=self.layer.w2_scale,
                    a1_scale=scale,
                    a1_q=step.hidden,
                    block_shape=[128, 128],
                    filter_expert=True,
                )

            return call

        rows = 9 * t / 32  # of 72 experts, top 8 of 256: as many rows an expert
        choices = {
            "72 experts, T": (nearest(self.tuned, t), nearest(self.tuned_down, t)),
            "72 experts, rows": (nearest(self.tuned, rows), nearest(self.tuned_down, rows)),
            "default": (DEFAULT, None),
        }
        if t <= 64:
            choices["16 x 128"] = (SMALL, None)
        different = {}
        for name, choice in choices.items():
            if choice not in different.values():
                different[name] = choice
        return {name: with_config(*choice) for name, choice in different.items()}


def glob_text(name: str) -> str:
    """The name as a glob pattern that matches it alone."""
    return name.replace("[", "[[]")
