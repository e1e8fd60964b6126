"""SGLang's kernels without its server: an import hook that lets their modules through and stands in for the rest.

Importing the package proper pulls in a whole server and a compiled extension for one version of PyTorch. The kernels need
a few answers from it (which platform is this, is a mode on); those are given here.
"""

import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import logging
import os
import pathlib
import sys
import tempfile
import types
from unittest import mock

RUNNER = "sglang.srt.layers.moe.moe_runner.triton_utils"
REAL = ("sglang.kernels", "sglang.srt.environ", RUNNER)


def _is_real(name: str) -> bool:
    return any(name == real or name.startswith(f"{real}.") for real in REAL)


def _leads_to_real(name: str) -> bool:
    return any(real.startswith(f"{name}.") for real in REAL)


class _StandIn(types.ModuleType):
    """A module in which every name is there."""

    __path__: list = []

    def __getattr__(self, name: str):
        inside = f"{self.__name__}.{name}"
        if name.startswith("__") or _is_real(inside) or _leads_to_real(inside):
            raise AttributeError(name)
        if self.__name__.partition(".")[0] == "sgl_kernel":
            value = _missing(inside)
        else:
            # No other platform, no mode is on; a mock would be true.
            value = _false if name.startswith(("is_", "has_")) else mock.MagicMock(name=inside)
        setattr(self, name, value)
        return value


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def __init__(self, package: pathlib.Path) -> None:
        self.package = package

    def find_spec(self, name, path=None, target=None):
        root = name.partition(".")[0]
        if root == "sgl_kernel" or (root == "sglang" and not _is_real(name)):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        module = _StandIn(spec.name)
        if _leads_to_real(spec.name):  # a folder on the way, without what its __init__ would import
            module.__path__ = [str(self.package.joinpath(*spec.name.split(".")[1:]))]
        return module

    def exec_module(self, module):
        answers = ANSWERS.get(module.__name__, {})
        for name, value in answers.items():
            setattr(module, name, value)


def _decorator(*given, **_):
    """register_custom_op, with arguments or without: the function as it is."""
    if len(given) == 1 and callable(given[0]):
        return given[0]
    return lambda function: function


def _missing(name: str):
    """A kernel of the compiled extension. A mock would do nothing, and what it should have written would be read."""

    def call(*_, **__):
        raise NotImplementedError(f"{name} is in SGLang's compiled extension, which is not here")

    return call


def _false(*_, **__) -> bool:
    return False


def _true(*_, **__) -> bool:
    return True


class _Exec:
    """Every enable_* of the server is off. The constant: a falsy object would reach a Triton constexpr."""

    def __getattr__(self, name: str):
        return False if name.startswith("enable_") else _Exec()


def _device_name(*_, **__) -> str:
    import torch

    return torch.cuda.get_device_name().replace(" ", "_")


_UTILS = {
    "is_cuda": _true,
    "is_sm90_supported": _true,
    "get_device_name": _device_name,
    "get_bool_env_var": _false,
    "cpu_has_amx_support": _false,
    "ceil_div": lambda a, b: -(-a // b),
    "ceil_align": lambda a, unit: -(-a // unit) * unit,
}
ANSWERS = {
    "sglang.srt.utils": _UTILS,
    "sglang.srt.utils.common": _UTILS,
    "sglang.srt.utils.custom_op": {"register_custom_op": _decorator},
    "sglang.srt.distributed.device_communicators.pynccl_allocator": {
        "use_symmetric_memory": lambda *_, **__: contextlib.nullcontext()
    },
    "sglang.srt.layers.moe.utils": {"get_moe_padding_size": lambda *_: 0},
    "sglang.srt.runtime_context": {"get_exec": _Exec},
}


def install() -> None:
    """Makes the kernels' modules importable. Raises ImportError where the package is not there."""
    if any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return
    spec = importlib.util.find_spec("sglang")  # finds, does not import
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("sglang is not in this environment")
    os.environ.setdefault("CUDA_HOME", "/usr/local/cuda")
    os.environ.setdefault("SGLANG_JIT_CACHE_DIR", str(pathlib.Path(tempfile.gettempdir()) / "peers-sglang"))
    logging.Logger.warning_once = lambda *_, **__: None  # its logger has one
    sys.meta_path.insert(0, _Finder(pathlib.Path(spec.submodule_search_locations[0])))


class Router:
    """SGLang's fused router: [T, E] f32 logits to weights [T, K] f32 and global ids [T, K] int32."""

    def __init__(self, layer) -> None:
        install()
        import torch
        from sglang.kernels.ops.moe.moe_fused_gate import moe_fused_gate

        self._gate = moe_fused_gate
        self._geometry = layer.geometry
        self._bias = torch.zeros(layer.geometry.experts, device=layer.device)

    def __call__(self, logits):
        g = self._geometry
        return self._gate(
            logits,
            self._bias,
            g.top_k,
            scoring_func="sigmoid",
            renormalize=True,
            routed_scaling_factor=g.routed_scaling_factor,
            apply_routed_scaling_factor_on_output=True,
            num_expert_group=g.n_group,
            topk_group=g.topk_group,
        )
