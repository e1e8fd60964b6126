"""The FP8 block-scaled mixture-of-experts layer of DeepSeek-V3/R1, and of models shaped like it, as one operator.

    blockmoe.fused_moe(...)          one call: routing, both grouped products, combine
    blockmoe.fused_moe_prerouted(...)  the same without the routing, for callers that have done it
    blockmoe.Plan(...).bind(...)     the same in three steps, for engines: once a model, once a layer, each step
    blockmoe.expert_parallel         the layer over several ranks of torch.distributed, each with a part of the experts
    blockmoe.torch                   the operator registered with PyTorch, for torch.compile and torch.export

Tensors are those of any framework that speaks DLPack, on the CPU or on CUDA devices. Nothing here imports a framework.
"""

from ._core import version as _version
from ._fused_moe import fused_moe
from ._fused_moe_prerouted import fused_moe_prerouted
from ._plan import BoundPlan, Plan, Weights
from ._tensors import DLPackTensor

__version__: str = _version()
__all__ = ["BoundPlan", "DLPackTensor", "Plan", "Weights", "fused_moe", "fused_moe_prerouted"]
