"""Tensors on their way to the library: what TVM-FFI takes as it is, and what must be lent to it by hand.

Nothing is copied: an array that can't be lent is an error that names the argument.
"""

import sys
from typing import Any, NoReturn, Protocol, TypeVar

import tvm_ffi


class DLPackTensor(Protocol):
    """A tensor of any framework that speaks DLPack (PyTorch, NumPy, JAX, CuPy, ...)."""

    def __dlpack__(self, *, stream: Any = None) -> Any: ...

    def __dlpack_device__(self) -> Any: ...


Output = TypeVar("Output", bound=DLPackTensor)

# Types of ml_dtypes, which NumPy does not export, and the integers that stand for them.
_STAND_INS = {"float8_e4m3fn": "uint8", "bfloat16": "uint16"}


def lend(argument: str, tensor: DLPackTensor, *, written: bool = False) -> Any:
    """The tensor as TVM-FFI takes it.

    Raises TypeError for what is no tensor and ValueError for memory that its framework does not lend.
    """
    if hasattr(type(tensor), "__dlpack_c_exchange_api__"):  # PyTorch's and TVM-FFI's own: no detour
        return tensor
    if not hasattr(tensor, "__dlpack__"):
        raise TypeError(f"{argument}: {type(tensor).__name__}, expected a tensor that speaks DLPack")
    try:
        return tvm_ffi.from_dlpack(_numpy_capsule(tensor, written) if is_numpy(tensor) else tensor)
    except (BufferError, TypeError, ValueError) as error:
        raise ValueError(f"{argument}: not lent by its framework ({error})") from error


def lend_optional(argument: str, tensor: DLPackTensor | None, *, written: bool = False) -> Any:
    return None if tensor is None else lend(argument, tensor, written=written)


def raise_by_name(error: RuntimeError, **tensors: DLPackTensor | None) -> NoReturn:
    """Raises ValueError in the name of the first tensor that its framework does not lend, or else `error` itself.

    Of PyTorch's tensors it is known only once a call has failed: one without storage, for example.
    """
    for argument, tensor in tensors.items():
        try:
            if tensor is not None:
                tvm_ffi.from_dlpack(lend(argument, tensor))
        except (BufferError, RuntimeError) as refusal:
            reason = str(refusal).partition("\n")[0]
            raise ValueError(f"{argument}: not lent by its framework ({reason})") from error
    raise error


def is_numpy(tensor: object) -> bool:
    numpy = sys.modules.get("numpy")  # not loaded: no tensor is of it
    return numpy is not None and isinstance(tensor, numpy.ndarray)


def _numpy_capsule(array: Any, written: bool) -> Any:
    if array.dtype.kind == "V":  # not NumPy's own
        array = array.view(_STAND_INS.get(array.dtype.name, array.dtype))
    # The old form, without a version, refuses what is read-only: right for an output, too strict for weights in a mapped file.
    return array.__dlpack__() if written else array.__dlpack__(max_version=(1, 0))


def new_numpy_picks(routing_logits: Any, top_k: int) -> tuple[Any, Any]:
    """[T, top_k] for ids and for weights, or None and None where routing_logits is no NumPy matrix."""
    if not is_numpy(routing_logits) or routing_logits.ndim != 2:
        return None, None
    shape = (routing_logits.shape[0], top_k)
    return tuple(sys.modules["numpy"].empty(shape, dtype) for dtype in ("int32", "float32"))


def new_numpy_output(hidden_states: Any) -> Any:
    """[T, H] for bf16 codes in NumPy's uint16, or None where hidden_states is no NumPy matrix."""
    if not is_numpy(hidden_states) or hidden_states.ndim != 2:
        return None
    return sys.modules["numpy"].empty(hidden_states.shape, "uint16")
