"""FlashInfer's cutlass_fused_moe with DeepSeek's block scales on sm_90: BF16 in, picks given, everything after them.

BLOCKMOE_FLASHINFER_MODULE names the module that build_flashinfer.py made: the package's own takes hours to compile. Ids are
global, with this rank one of eight. Its block-scale path has no tactics to choose from.
"""

import os
import pathlib
import tempfile
from importlib import metadata

import torch

from . import Peer

SWIGLU = 3  # of the package's ActivationType


class FlashInferCutlass(Peer):
    title = "FlashInfer, cutlass_fused_moe"
    takes = "bf16"
    part = "experts"

    def __init__(self, layer):
        super().__init__(layer)
        import importlib.util

        import tvm_ffi

        os.environ.setdefault("CUDA_HOME", "/usr/local/cuda")
        os.environ.setdefault("TRTLLM_DG_CACHE_DIR", str(pathlib.Path(tempfile.gettempdir()) / "peers-flashinfer"))
        pathlib.Path(os.environ["TRTLLM_DG_CACHE_DIR"]).mkdir(parents=True, exist_ok=True)
        package = importlib.util.find_spec("flashinfer")
        if package is None:
            raise ImportError("flashinfer is not in this environment")
        built = os.environ.get("BLOCKMOE_FLASHINFER_MODULE", "")
        if not pathlib.Path(built).is_file():
            raise ImportError(f"BLOCKMOE_FLASHINFER_MODULE is {built!r}, not the module that build_flashinfer.py makes")
        module = tvm_ffi.load_module(built)
        sources = pathlib.Path(package.submodule_search_locations[0]) / "data/csrc/nv_internal/tensorrt_llm"
        module.set_deepgemm_jit_include_dirs([str(sources)])
        bf16, e4m3 = torch.bfloat16, torch.float8_e4m3fn
        self.runner = module.init(bf16, e4m3, bf16, True, False, False, False, True, False)

    def versions(self):
        return f"flashinfer-python {metadata.version('flashinfer-python')}"

    def candidates(self, step):
        g, device = self.layer.geometry, self.layer.device
        ranks = g.experts // g.local_experts
        size = self.runner.get_workspace_size(
            step.tokens, g.hidden, g.intermediate, g.experts, g.top_k, 1, 0, ranks, 0, False, SWIGLU
        )
        workspace = torch.empty(int(size), dtype=torch.uint8, device=device)
        self.output = torch.empty(step.tokens, g.hidden, dtype=torch.bfloat16, device=device)
        scales = [self.layer.w13_scale, self.layer.w2_scale]

        def call():
            self.runner.run_moe(
                self.output, step.hidden_bf16, step.ids, step.weights, self.layer.w13, None, self.layer.w2, None, scales,
                None, None, None, None, None, None, None, False, 1, 0, ranks, 0, 1, 0, False, False, [-1, -1], True, SWIGLU,
                workspace,
            )  # fmt: skip

        return {"no tactics": call}
