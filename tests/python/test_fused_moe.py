"""What a call computes, against the reference in float64."""

import ml_dtypes
import numpy as np
import pytest

import blockmoe
from frameworks import NumPy, arguments, values
from reference import GATE_CPU, GATE_CUDA, GATE_TWO_TERMS, mixture, picks_of, random_layer, reference, relative_error


def gate(framework):
    return GATE_CUDA if framework.cuda else GATE_CPU


@pytest.mark.parametrize("tokens", [1, 7, 65])
def test_the_output_is_the_references(framework, tokens):
    layer = random_layer(tokens)
    output = blockmoe.fused_moe(**arguments(framework, layer), **layer.routing)
    assert relative_error(values(framework, output), reference(layer)) < gate(framework)


def test_an_intermediate_of_two_terms_gives_the_layer_that_does_not_requantise(framework):
    layer = random_layer(65)
    given = arguments(framework, layer)
    exact = reference(layer, requantises=False)
    output = blockmoe.fused_moe(**given, **layer.routing, intermediate_type="e4m3x2")
    assert relative_error(values(framework, output), exact) < GATE_TWO_TERMS
    assert relative_error(values(framework, blockmoe.fused_moe(**given, **layer.routing)), exact) > 0.01


def test_a_given_output_is_written_and_returned(framework):
    layer = random_layer(5)
    given = framework.output(5, 256)
    output = blockmoe.fused_moe(**arguments(framework, layer), output=given, **layer.routing)
    assert output is given
    assert relative_error(values(framework, given), reference(layer)) < gate(framework)


def test_pruning_to_one_pick_leaves_the_largest(framework):
    layer = random_layer(33)
    ids, weights = picks_of(layer)
    largest = np.argmax(weights, axis=1)[:, None]
    one = np.take_along_axis(ids, largest, axis=1), np.take_along_axis(weights, largest, axis=1)
    output = blockmoe.fused_moe(**arguments(framework, layer), **layer.routing, max_local_picks=1)
    assert relative_error(values(framework, output), mixture(layer, *one)) < gate(framework)


def test_every_framework_gets_the_same_bits(framework):
    if framework.cuda:
        pytest.skip("a GPU sums in another order")
    layer = random_layer(9)
    output = blockmoe.fused_moe(**arguments(framework, layer), **layer.routing)
    of_numpy = blockmoe.fused_moe(**arguments(NumPy(), layer), **layer.routing)
    np.testing.assert_array_equal(framework.bits(output), of_numpy)


def test_a_new_output_is_of_the_frameworks_own_kind(framework):
    layer = random_layer(3)
    output = blockmoe.fused_moe(**arguments(framework, layer), **layer.routing)
    assert type(output) is type(framework.output(3, 256))
    assert tuple(output.shape) == (3, 256)


def test_a_plan_bound_once_gives_the_bits_of_one_call(framework):
    layer = random_layer(11)
    given = arguments(framework, layer)
    plan = blockmoe.Plan(
        64,
        "cuda" if framework.cuda else "cpu",
        experts=16,
        local_experts=16,
        hidden=256,
        intermediate=128,
        **layer.routing,
    )
    step = [given.pop(name) for name in ("routing_logits", "hidden_states", "hidden_states_scale")]
    bound = plan.bind(blockmoe.Weights(**given))
    whole = framework.bits(blockmoe.fused_moe(**arguments(framework, layer), **layer.routing))
    with_plan = framework.bits(blockmoe.fused_moe(**arguments(framework, layer), plan=plan))
    np.testing.assert_array_equal(framework.bits(bound.run(*step)), whole)
    np.testing.assert_array_equal(with_plan, whole)


def test_a_workspace_of_the_callers_is_enough_wherever_it_begins(framework):
    layer = random_layer(4)
    plan = blockmoe.Plan(
        4,
        "cuda" if framework.cuda else "cpu",
        experts=16,
        local_experts=16,
        hidden=256,
        intermediate=128,
        **layer.routing,
    )
    memory = framework.tensor(np.full(plan.workspace_bytes + 3, 0xFF, np.uint8))
    output = blockmoe.fused_moe(**arguments(framework, layer), plan=plan, workspace=memory[3:])
    assert relative_error(values(framework, output), reference(layer)) < gate(framework)


def test_no_token_is_a_call_that_writes_nothing(framework):
    layer = random_layer(0)
    output = blockmoe.fused_moe(**arguments(framework, layer), **layer.routing)
    assert tuple(output.shape) == (0, 256)


def test_ranks_compute_their_own_experts(framework):
    for offset in (0, 8):
        layer = random_layer(12, offset=offset, local=8)
        output = blockmoe.fused_moe(**arguments(framework, layer), **layer.routing)
        assert relative_error(values(framework, output), reference(layer)) < gate(framework)


def test_experts_outside_all_numbers_give_zeros(framework):
    layer = random_layer(6, offset=16, local=8)
    output = blockmoe.fused_moe(**arguments(framework, layer), **layer.routing)
    assert not values(framework, output).any()


def test_gate_first_swaps_the_halves_of_gemm1(framework):
    layer = random_layer(6)
    expected = framework.bits(blockmoe.fused_moe(**arguments(framework, layer), **layer.routing))
    layer.gemm1_weights = np.roll(layer.gemm1_weights, 128, axis=1)
    layer.gemm1_weights_scale = np.roll(layer.gemm1_weights_scale, 1, axis=1)
    output = blockmoe.fused_moe(**arguments(framework, layer), **layer.routing, gate_first=True)
    np.testing.assert_array_equal(framework.bits(output), expected)


def test_no_bias_is_a_bias_of_zeros(framework):
    layer = random_layer(6)
    layer.routing_bias[:] = 0
    zeros = framework.bits(blockmoe.fused_moe(**arguments(framework, layer), **layer.routing))
    absent = blockmoe.fused_moe(**arguments(framework, layer) | {"routing_bias": None}, **layer.routing)
    np.testing.assert_array_equal(framework.bits(absent), zeros)


def test_logits_and_bias_of_bfloat16_are_what_they_stand_for():
    layer = random_layer(8)
    layer.routing_logits = layer.routing_logits.astype(ml_dtypes.bfloat16).astype(np.float32)
    exact = blockmoe.fused_moe(**arguments(NumPy(), layer), **layer.routing)
    narrow = arguments(NumPy(), layer)
    for name in ("routing_logits", "routing_bias"):
        narrow[name] = narrow[name].astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(blockmoe.fused_moe(**narrow, **layer.routing), exact)


def test_contents_may_change_between_calls(framework):
    layer = random_layer(5)
    given = arguments(framework, layer)
    blockmoe.fused_moe(**given, **layer.routing)
    given["gemm2_weights_scale"] *= -1
    output = blockmoe.fused_moe(**given, **layer.routing)
    layer.gemm2_weights_scale *= -1
    assert relative_error(values(framework, output), reference(layer)) < gate(framework)
