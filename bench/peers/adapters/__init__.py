"""One file a peer; the class in it is named in PEERS. A peer that can't run raises at construction and says why."""

import importlib
from collections.abc import Callable
from typing import Any

# By name: module, class. The name is the one of `peer_us` in the JSON.
PEERS = {
    "deepgemm_products": ("deepgemm_products", "DeepGemmProducts"),
    "deepgemm_mega": ("deepgemm_mega", "DeepGemmMega"),
    "sglang_triton": ("sglang_triton", "SglangTriton"),
    "sglang_deepgemm": ("sglang_deepgemm", "SglangDeepGemm"),
    "flashinfer_cutlass": ("flashinfer_cutlass", "FlashInferCutlass"),
    "vllm_triton": ("vllm_triton", "VllmTriton"),
    "blockmoe_portable": ("blockmoe_portable", "BlockmoePortable"),
}


class Peer:
    """An implementation of the layer, held still for one call at a time.

    The worker constructs it once (weights in its own layout), then for each T asks for the candidates, captures calls of them,
    and reads the result. What candidates() itself does is not timed; the calls that it returns are.
    """

    title = ""
    takes = "e4m3"
    """What it takes as activations: "e4m3" with the step's scales, or "bf16", which it quantises itself."""
    part = "whole"
    """"whole": logits to output. "experts": the picks are given. "products": the two grouped products alone."""
    error_limit = 0.03
    """Relative error against the unquantised reference: one requantisation of the intermediate gives 0.023. BF16 activations
    are those that e4m3 and its scales stand for, so that quantising them again adds next to nothing."""
    output: Any = None
    """[T, hidden], set by call() or before it."""

    def __init__(self, layer: Any) -> None:
        self.layer = layer

    def candidates(self, step: Any) -> dict[str, Callable[[], None]]:
        """Makes everything that a call of this step needs; the ways to make it, by name. The fastest is timed."""
        raise NotImplementedError

    def result(self) -> Any:
        """[T, hidden] of the last call."""
        return self.output

    def spoil(self) -> None:
        """Puts NaN where the last call wrote, so that a result is the one of the call that follows."""
        self.output.fill_(float("nan"))

    def versions(self) -> str:
        """Package and version, from its metadata."""
        return ""


def load(name: str) -> type[Peer]:
    module, class_name = PEERS[name]
    return getattr(importlib.import_module(f"{__name__}.{module}"), class_name)
