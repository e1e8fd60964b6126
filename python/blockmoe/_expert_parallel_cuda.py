"""A step of the layer over the ranks of a group on CUDA devices: blockmoe::EpGroup on a communicator of NCCL, made here."""

import ctypes
import datetime
from collections.abc import Sequence
from typing import Any

import torch

from . import _core
from ._plan import Weights, bind_weights
from ._ranks import RankError, Ranks
from ._tensors import lend


class _UniqueId(ctypes.Structure):
    """ncclUniqueId"""

    _fields_ = [("bytes", ctypes.c_ubyte * 128)]


_UNDEFINED = -(2**31)  # NCCL_CONFIG_UNDEF_INT
_CONFIG_MAGIC, _CONFIG_VERSION = 0xCAFEBEEF, 22800  # of ncclConfig_t, as src/ep/nccl.hpp has them


class _Config(ctypes.Structure):
    """The beginning of ncclConfig_t. NCCL reads as many bytes as `size` says and chooses the rest itself."""

    _fields_ = [
        ("size", ctypes.c_size_t),
        ("magic", ctypes.c_uint),
        ("version", ctypes.c_uint),
        ("blocking", ctypes.c_int),
        ("cga_cluster_size", ctypes.c_int),
        ("min_ctas", ctypes.c_int),
        ("max_ctas", ctypes.c_int),
    ]


class CudaGroup:
    """EpGroup's part on a CUDA device.

    Args:
        ranks: what they described agrees. NCCL connects them.
        device: with its number.
        geometry: of Plan, local_experts included.
        expert_map: [L], or None.
        way: a name of EP_WAYS.
        timeout: of set-up and of check().
    """

    def __init__(
        self,
        ranks: Ranks,
        max_tokens: int,
        device: torch.device,
        geometry: dict[str, int],
        expert_map: Sequence[int] | None,
        *,
        way: str,
        timeout: datetime.timedelta,
        backend: str,
        gate_first: bool,
        max_sms: int,
        max_local_picks: int,
        batch_invariant: bool,
    ) -> None:
        self._device = device
        self._timeout_ms = int(timeout.total_seconds() * 1000)

        def post(calls: int) -> None:
            ranks.say("calls", str(calls))

        def read(rank: int) -> int:
            return int(ranks.said_at_once("calls", rank) or 0)

        self._handle = _core.make_ep_group(
            _communicator(ranks, device, _core.EP_EXCHANGE_CTAS if way == "exchange" else _UNDEFINED),
            max_tokens,
            geometry["experts"],
            geometry["hidden"],
            geometry["intermediate"],
            geometry["local_experts"],
            geometry["top_k"],
            geometry["n_group"],
            geometry["topk_group"],
            str(device),
            _core.backend_number(backend),
            gate_first,
            max_sms,
            max_local_picks,
            batch_invariant,
            _core.EP_WAYS[way],
            self._timeout_ms,
            expert_map,
            post,
            read,
        )
        self._workspace = torch.empty(_core.ep_group_workspace_bytes(self._handle), dtype=torch.uint8, device=device)

    @property
    def explain(self) -> str:
        return str(_core.ep_group_explain(self._handle))

    def way(self, most_tokens: int) -> str:
        number = _core.ep_group_way(self._handle, most_tokens)
        return next(name for name, value in _core.EP_WAYS.items() if value == number)

    def bind(self, weights: Weights) -> "CudaLayer":
        bound = bind_weights(_core.ep_group_bind, self._handle, weights)
        return CudaLayer(bound, weights, self._workspace)

    def check(self) -> None:
        stream = torch.cuda.current_stream(self._device).cuda_stream
        try:
            _core.ep_group_check(self._handle, stream, self._timeout_ms)
        except RuntimeError as error:
            raise RankError(str(error)) from error


class CudaLayer:
    """One layer on one rank; it keeps the weights' tensors alive."""

    def __init__(self, bound: Any, weights: Weights, workspace: torch.Tensor) -> None:
        self._bound = bound
        self._weights = weights
        self._workspace = workspace

    def run(
        self,
        logits: torch.Tensor,
        hidden: torch.Tensor,
        scale: torch.Tensor,
        output: torch.Tensor | None,
        most_tokens: int,
    ) -> torch.Tensor:
        made = _core.bound_ep_group_run(
            self._bound,
            lend("routing_logits", logits),
            lend("hidden_states", hidden),
            lend("hidden_states_scale", scale),
            output,
            self._workspace,
            most_tokens,
        )
        return made if output is None else output


def _communicator(ranks: Ranks, device: torch.device, max_ctas: int) -> int:
    """An ncclComm_t of all ranks, by the library that PyTorch has loaded. It lives as long as the process does."""
    nccl = ctypes.CDLL("libnccl.so.2")

    def require(code: int, call: str) -> None:
        if code != 0:
            nccl.ncclGetErrorString.restype = ctypes.c_char_p
            raise RuntimeError(f"{call}: {nccl.ncclGetErrorString(code).decode()}")

    number = _UniqueId()
    if ranks.rank == 0:
        require(nccl.ncclGetUniqueId(ctypes.byref(number)), "ncclGetUniqueId")
        ranks.say("ncclUniqueId", bytes(number).hex())
    number = _UniqueId.from_buffer_copy(bytes.fromhex(ranks.said("ncclUniqueId", 0)))
    communicator = ctypes.c_void_p()
    config = _Config(ctypes.sizeof(_Config), _CONFIG_MAGIC, _CONFIG_VERSION, _UNDEFINED, _UNDEFINED, _UNDEFINED, max_ctas)
    init = nccl.ncclCommInitRankConfig
    init.argtypes = [ctypes.POINTER(ctypes.c_void_p), ctypes.c_int, _UniqueId, ctypes.c_int, ctypes.POINTER(_Config)]
    with torch.cuda.device(device):
        require(init(communicator, ranks.size, number, ranks.rank, config), "ncclCommInitRankConfig")
    return communicator.value or 0
