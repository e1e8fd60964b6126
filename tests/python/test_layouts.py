"""Layouts that are taken as they are, and those that are refused: never a copy, never a write."""

import ctypes

import numpy as np
import pytest

import blockmoe
from frameworks import TENSORS, NumPy, arguments
from reference import random_layer

TOKENS = 5


@pytest.fixture
def layer():
    return random_layer(TOKENS)


def padded(framework, tensor, columns):
    """The same values in rows that stand `columns` further apart."""
    rows, width = tensor.shape
    make = framework.tensor(np.zeros((rows, width + columns), np.float32))
    wide = make.astype(tensor.dtype) if isinstance(make, np.ndarray) else make.to(tensor.dtype)
    wide[:, :width] = tensor
    return wide[:, :width]


def test_rows_may_stand_apart(framework, layer):
    given = arguments(framework, layer)
    expected = framework.bits(blockmoe.fused_moe(**given, **layer.routing))
    for name, columns in (("routing_logits", 3), ("hidden_states", 16), ("hidden_states_scale", 7)):
        given[name] = padded(framework, given[name], columns)
    np.testing.assert_array_equal(framework.bits(blockmoe.fused_moe(**given, **layer.routing)), expected)


def test_a_pitched_outputs_gaps_stay_as_they_are(framework, layer):
    given = arguments(framework, layer)
    expected = framework.bits(blockmoe.fused_moe(**given, **layer.routing))
    wide = framework.output(TOKENS, 256 + 8)
    blockmoe.fused_moe(**given, output=wide[:, :256], **layer.routing)
    np.testing.assert_array_equal(framework.bits(wide)[:, :256], expected)
    assert (framework.bits(wide)[:, 256:] == framework.bits(framework.output(TOKENS, 8))).all()


def test_inputs_may_be_read_only(layer):
    given = arguments(NumPy(), layer)
    expected = blockmoe.fused_moe(**given, **layer.routing)
    for name in TENSORS:
        given[name].setflags(write=False)
    np.testing.assert_array_equal(blockmoe.fused_moe(**given, **layer.routing), expected)


def narrower(tensor):
    return tensor[..., :-1]


def columns_apart(tensor):
    return tensor[..., ::2]


REFUSED = {
    "logits_too_few_tokens": ("routing_logits", lambda x: x[:-1], r"routing_logits: shape \[4, 16\], expected \[5, 16\]"),
    "logits_rank": ("routing_logits", lambda x: x[0], r"routing_logits: shape \[16\], expected \[T, E\]"),
    "bias_shape": ("routing_bias", narrower, r"routing_bias: shape \[15\], expected \[16\]"),
    "hidden_rank": ("hidden_states", lambda x: x[0], r"hidden_states: shape \[256\], expected \[T, H\]"),
    "hidden_width": ("hidden_states", lambda x: x[:, :128], r"hidden_states: shape \[5, 128\], expected \[5, 256\]"),
    "hidden_columns_apart": ("hidden_states", lambda x: x.repeat(2, 1)[:, ::2], "hidden_states: .*stride"),
    "scale_is_transposed": ("hidden_states_scale", lambda x: x.T, r"hidden_states_scale: shape \[5, 2\]"),
    "scale_tokens_slow": ("hidden_states_scale", lambda x: x.T.copy().T, "hidden_states_scale: .*stride"),
    "gemm1_rows": ("gemm1_weights", lambda x: x[:, :-1], r"gemm1_weights: shape \[16, 255, 256\]"),
    "gemm1_gaps": ("gemm1_weights", lambda x: x.repeat(2, 0)[::2], "gemm1_weights: .*stride"),
    "gemm1_scale": ("gemm1_weights_scale", narrower, r"gemm1_weights_scale: shape \[16, 2, 1\], expected \[16, 2, 2\]"),
    "gemm2_rank": ("gemm2_weights", lambda x: x[0], r"gemm2_weights: shape \[256, 128\], expected \[L, H, I\]"),
    "gemm2_not_128": ("gemm2_weights", columns_apart, "geometry.intermediate: 64, expected"),
    "gemm2_scale": ("gemm2_weights_scale", lambda x: x[:-1], r"gemm2_weights_scale: shape \[15, 2, 1\]"),
    "factor": ("routed_scaling_factor", lambda _: float("nan"), "routed_scaling_factor: NaN, expected a finite number"),
    "offset": ("local_expert_offset", lambda _: 1 << 40, "local_expert_offset: 1099511627776, expected a number of 32 bits"),
}


@pytest.mark.parametrize("name, change, message", REFUSED.values(), ids=REFUSED.keys())
def test_a_refusal_names_the_argument_and_writes_nothing(layer, name, change, message):
    given = arguments(NumPy(), layer)
    given[name] = change(given[name])
    output = NumPy().output(TOKENS, 256)
    with pytest.raises(ValueError, match=message):
        blockmoe.fused_moe(**given, output=output, **layer.routing)
    assert (output == NumPy().output(TOKENS, 256)).all()


@pytest.mark.parametrize("name", TENSORS)
@pytest.mark.parametrize("dtype", ["int32", "float64", "complex64", "bool", "U1"])
def test_a_wrong_type_is_refused_by_name(layer, name, dtype):
    given = arguments(NumPy(), layer)
    given[name] = given[name].astype(dtype)
    output = NumPy().output(TOKENS, 256)
    with pytest.raises(ValueError, match=f"^{name}: "):
        blockmoe.fused_moe(**given, output=output, **layer.routing)
    assert (output == NumPy().output(TOKENS, 256)).all()


def test_a_type_of_another_tensor_is_refused_by_name(framework, layer):
    given = arguments(framework, layer)
    given["gemm1_weights_scale"] = framework.e4m3(layer.gemm1_weights[:, :2, :2])
    with pytest.raises(ValueError, match="^gemm1_weights_scale: type float8_e4m3, expected float32"):
        blockmoe.fused_moe(**given, **layer.routing)


class On:
    """Host memory that says it is on another device."""

    def __init__(self, array, device_type):
        self.array, self.device_type = array, device_type

    def __dlpack__(self, **_):
        capsule = self.array.__dlpack__()
        address = ctypes.pythonapi.PyCapsule_GetPointer
        address.restype, address.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
        after_data = address(capsule, b"dltensor") + ctypes.sizeof(ctypes.c_void_p)
        ctypes.c_int32.from_address(after_data).value = self.device_type
        return capsule

    def __dlpack_device__(self):
        return self.device_type, 0


@pytest.mark.parametrize("name", [name for name in TENSORS if name != "hidden_states"])
def test_a_tensor_on_another_device_than_the_others_is_refused(layer, name):
    given = arguments(NumPy(), layer)
    given[name] = On(given[name], 2)
    with pytest.raises(ValueError, match=f"^{name}: .*cuda:0, expected .*cpu"):
        blockmoe.fused_moe(**given, output=NumPy().output(TOKENS, 256), **layer.routing)


def test_a_device_that_nothing_here_runs_on_is_refused(layer):
    given = arguments(NumPy(), layer)
    given["hidden_states"] = On(given["hidden_states"], 10)
    with pytest.raises(ValueError, match="^hidden_states: on a device of DLPack's type 10, expected"):
        blockmoe.fused_moe(**given, output=NumPy().output(TOKENS, 256), **layer.routing)


@pytest.mark.parametrize("name", [name for name in TENSORS if name != "routing_bias"])
@pytest.mark.parametrize("value", [None, 3, [[0.0]]], ids=["none", "number", "list"])
def test_what_is_no_tensor_is_refused_by_name(layer, name, value):
    given = arguments(NumPy(), layer)
    given[name] = value
    with pytest.raises(TypeError, match=f"^{name}: {type(value).__name__}, expected a tensor"):
        blockmoe.fused_moe(**given, output=NumPy().output(TOKENS, 256), **layer.routing)


OUTPUTS = {
    "shape": (lambda x: x[:-1], r"output: shape \[4, 256\], expected \[5, 256\]"),
    "type": (lambda x: x.astype(np.int32), "output: type int32, expected bfloat16 or float32"),
    "columns_apart": (lambda x: x.repeat(2, 1)[:, ::2], "output: .*stride"),
    "address": (lambda x: np.zeros(x.size + 4, np.uint16)[1 : x.size + 1].reshape(x.shape), "output: address"),
}


@pytest.mark.parametrize("change, message", OUTPUTS.values(), ids=OUTPUTS.keys())
def test_an_output_that_cant_be_used_is_refused(layer, change, message):
    output = change(NumPy().output(TOKENS, 256))
    before = output.copy()
    with pytest.raises(ValueError, match=message):
        blockmoe.fused_moe(**arguments(NumPy(), layer), output=output, **layer.routing)
    np.testing.assert_array_equal(output, before)


def test_a_read_only_output_is_refused(layer):
    output = NumPy().output(TOKENS, 256)
    output.setflags(write=False)
    with pytest.raises(ValueError, match="^output: not lent by its framework"):
        blockmoe.fused_moe(**arguments(NumPy(), layer), output=output, **layer.routing)
    assert (output == 0x7FC0).all()


def test_an_output_that_overlaps_an_input_is_refused(layer):
    given = arguments(NumPy(), layer)
    memory = np.zeros(TOKENS * 256 * 2, np.uint8)
    given["hidden_states"] = memory[: TOKENS * 256].reshape(TOKENS, 256)
    with pytest.raises(ValueError, match="^output: overlaps hidden_states"):
        blockmoe.fused_moe(**given, output=memory.view(np.uint16).reshape(TOKENS, 256), **layer.routing)


OPTIONS = {
    "top_k": ({"top_k": 0}, "geometry.top_k: 0, expected 1 to 16"),
    "n_group": ({"n_group": 3}, "n_group: 3"),
    "topk_group": ({"topk_group": 5}, "geometry.topk_group: 5, expected 1 to 4"),
    "huge": ({"top_k": 1 << 40}, "top_k: 1099511627776, expected a number of 32 bits"),
    "backend_name": ({"backend": "fast"}, 'backend: "fast", expected auto, cpu, portable, hopper, blackwell'),
    "intermediate_type": ({"intermediate_type": "bf16"}, 'intermediate_type: "bf16", expected e4m3, e4m3x2'),
    "backend_elsewhere": ({"backend": "hopper"}, "options.backend: "),
}


@pytest.mark.parametrize("options, message", OPTIONS.values(), ids=OPTIONS.keys())
def test_an_option_outside_its_range_is_refused_by_name(layer, options, message):
    with pytest.raises(ValueError, match=message):
        blockmoe.fused_moe(**arguments(NumPy(), layer), **layer.routing | options)
