"""The same arrays in each framework that is here: what a test needs to make, change and read tensors of it."""

import importlib.util
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from reference import Layer

E4M3 = ("hidden_states", "gemm1_weights", "gemm2_weights")
TENSORS = (
    "routing_logits",
    "routing_bias",
    "hidden_states",
    "hidden_states_scale",
    "gemm1_weights",
    "gemm1_weights_scale",
    "gemm2_weights",
    "gemm2_weights_scale",
)


class NumPy:
    """uint8 for e4m3 and uint16 for bf16."""

    cuda = False

    def e4m3(self, codes: np.ndarray) -> Any:
        return codes.copy()

    def tensor(self, array: np.ndarray) -> Any:
        return array.copy()

    def output(self, tokens: int, width: int) -> Any:
        """bf16, every element NaN."""
        return np.full((tokens, width), 0x7FC0, np.uint16)

    def host(self, tensor: Any) -> np.ndarray:
        """A tensor of a type that NumPy has."""
        return np.asarray(tensor)

    def bits(self, output: Any) -> np.ndarray:
        """A bf16 tensor as uint16, on the host."""
        return np.asarray(output).view(np.uint16)


class MlDtypes(NumPy):
    """NumPy arrays of the types of ml_dtypes."""

    def e4m3(self, codes: np.ndarray) -> Any:
        return codes.copy().view(ml_dtypes.float8_e4m3fn)

    def output(self, tokens: int, width: int) -> Any:
        return np.full((tokens, width), np.nan, ml_dtypes.bfloat16)


class Torch:
    def __init__(self, device: str, *, codes_as_uint8: bool = False) -> None:
        import torch  # noqa: PLC0415: not everywhere

        self.torch = torch
        self.device = device
        self.cuda = device != "cpu"
        self.codes_as_uint8 = codes_as_uint8

    def e4m3(self, codes: np.ndarray) -> Any:
        tensor = self.tensor(codes)
        return tensor if self.codes_as_uint8 else tensor.view(self.torch.float8_e4m3fn)

    def tensor(self, array: np.ndarray) -> Any:
        return self.torch.from_numpy(array.copy()).to(self.device)

    def output(self, tokens: int, width: int) -> Any:
        return self.torch.full((tokens, width), float("nan"), dtype=self.torch.bfloat16, device=self.device)

    def host(self, tensor: Any) -> np.ndarray:
        return tensor.cpu().numpy()

    def bits(self, output: Any) -> np.ndarray:
        return output.cpu().view(self.torch.uint16).numpy()


def arguments(framework: Any, layer: Layer) -> dict[str, Any]:
    """The positional arguments of fused_moe by name, output not among them."""
    given: dict[str, Any] = {
        name: (framework.e4m3 if name in E4M3 else framework.tensor)(getattr(layer, name)) for name in TENSORS
    }
    return given | {
        "local_expert_offset": layer.local_expert_offset,
        "routed_scaling_factor": layer.routed_scaling_factor,
    }


def values(framework: Any, output: Any) -> np.ndarray:
    return framework.bits(output).view(ml_dtypes.bfloat16).astype(np.float64)


def _why_no_torch() -> str | None:
    return None if importlib.util.find_spec("torch") else "torch is not installed (make test-python-torch installs it)"


def _why_no_cuda() -> str | None:
    if _why_no_torch():
        return _why_no_torch()
    import torch  # noqa: PLC0415: not everywhere

    return None if torch.cuda.is_available() else "no CUDA device"


NO_TORCH, NO_CUDA = _why_no_torch(), _why_no_cuda()
needs_torch = pytest.mark.skipif(NO_TORCH is not None, reason=str(NO_TORCH))
needs_cuda = pytest.mark.skipif(NO_CUDA is not None, reason=str(NO_CUDA))

FRAMEWORKS = [
    pytest.param(NumPy, id="numpy"),
    pytest.param(MlDtypes, id="ml_dtypes"),
    pytest.param(lambda: Torch("cpu"), id="torch-cpu", marks=needs_torch),
    pytest.param(lambda: Torch("cpu", codes_as_uint8=True), id="torch-cpu-uint8", marks=needs_torch),
    pytest.param(lambda: Torch("cuda"), id="torch-cuda", marks=needs_cuda),
]
