"""Calls that their caller has routed."""

import ml_dtypes
import numpy as np
import pytest

import blockmoe
from frameworks import NumPy, arguments, values
from reference import GATE_CPU, GATE_CUDA, GATE_TWO_TERMS, mixture, picks_of, random_layer, relative_error

ROUTED_ALONE = ("routing_logits", "routing_bias", "routed_scaling_factor")


def gate(framework):
    return GATE_CUDA if framework.cuda else GATE_CPU


def prerouted_arguments(framework, layer, ids, weights):
    given = {name: value for name, value in arguments(framework, layer).items() if name not in ROUTED_ALONE}
    return {"topk_ids": framework.tensor(ids), "topk_weights": framework.tensor(weights)} | given


def test_the_output_is_the_references(framework):
    layer = random_layer(9, offset=8, local=8)
    ids, weights = picks_of(layer)
    output = blockmoe.fused_moe_prerouted(**prerouted_arguments(framework, layer, ids, weights), experts=16)
    assert relative_error(values(framework, output), mixture(layer, ids, weights)) < gate(framework)


def test_the_picks_of_the_routed_call_give_its_bits(framework):
    layer = random_layer(9)
    layer.routing_logits[:] = 0  # s is 1/2 everywhere: the bias chooses, and every weight is exactly 2.5 / 4
    ids, weights = picks_of(layer)
    assert (weights == np.float32(0.625)).all()
    routed = blockmoe.fused_moe(**arguments(framework, layer), **layer.routing)
    output = blockmoe.fused_moe_prerouted(**prerouted_arguments(framework, layer, ids, weights), experts=16)
    np.testing.assert_array_equal(framework.bits(output), framework.bits(routed))


def test_a_bound_plan_gives_the_bits_of_one_call(framework):
    layer = random_layer(5)
    given = prerouted_arguments(framework, layer, *picks_of(layer))
    whole = blockmoe.fused_moe_prerouted(**given, experts=16)
    step = [given.pop(name) for name in ("topk_ids", "topk_weights", "hidden_states", "hidden_states_scale")]
    device = "cuda" if framework.cuda else "cpu"
    plan = blockmoe.Plan(8, device, experts=16, local_experts=16, hidden=256, intermediate=128, top_k=4)
    output = framework.output(5, 256)
    assert plan.bind(blockmoe.Weights(**given)).run_prerouted(*step, output) is output
    np.testing.assert_array_equal(framework.bits(output), framework.bits(whole))


def bound_plan(framework, layer):
    given = arguments(framework, layer)
    step = {name: given.pop(name) for name in ("routing_logits", "hidden_states", "hidden_states_scale")}
    device = "cuda" if framework.cuda else "cpu"
    plan = blockmoe.Plan(8, device, experts=16, local_experts=16, hidden=256, intermediate=128, **layer.routing)
    return plan.bind(blockmoe.Weights(**given)), step


def test_the_picks_of_routing_alone_give_the_routed_calls_bits(framework):
    bound, step = bound_plan(framework, random_layer(5))
    routed = bound.run(**step)
    ids, weights = bound.route(step["routing_logits"])
    hidden = (step["hidden_states"], step["hidden_states_scale"])
    np.testing.assert_array_equal(framework.bits(bound.run_prerouted(ids, weights, *hidden)), framework.bits(routed))
    expected_ids, expected_weights = picks_of(random_layer(5))
    np.testing.assert_array_equal(framework.host(ids), expected_ids)
    np.testing.assert_allclose(framework.host(weights), expected_weights, rtol=1e-6)
    given = (framework.tensor(np.zeros((5, 4), np.int32)), framework.tensor(np.zeros((5, 4), np.float32)))
    found = bound.route(step["routing_logits"], *given)
    assert found[0] is given[0] and found[1] is given[1]
    np.testing.assert_array_equal(framework.host(given[0]), expected_ids)


def test_an_f32_output_rounds_to_the_bf16_outputs_bits(framework):
    layer = random_layer(5)
    bound, step = bound_plan(framework, layer)
    expected = framework.bits(bound.run(**step))
    output = framework.tensor(np.full((5, 256), np.nan, np.float32))
    assert bound.run(**step, output=output) is output
    rounded = framework.host(output).astype(ml_dtypes.bfloat16).view(np.uint16)
    np.testing.assert_array_equal(rounded, expected)
    again = framework.tensor(np.full((5, 256), np.nan, np.float32))
    blockmoe.fused_moe(**arguments(framework, layer), **layer.routing, output=again)
    np.testing.assert_array_equal(framework.host(again), framework.host(output))
def kept_ids(ids, weights, most, share):
    """ids with -1 for what pruning drops, of a rank that has all experts and weights that are above 0."""
    kept = ids.copy()
    order = np.argsort(-weights, axis=1, kind="stable")
    if most:
        np.put_along_axis(kept, order[:, most:], -1, axis=1)
    kept[weights < np.float32(share) * weights.sum(axis=1, keepdims=True, dtype=np.float32)] = -1
    return kept


@pytest.mark.parametrize(("most", "share"), [(1, 0.0), (3, 0.0), (0, 0.2), (2, 0.3)])
def test_pruning_leaves_what_the_call_without_the_dropped_picks_has(framework, most, share):
    layer = random_layer(40)
    ids, weights = picks_of(layer)
    expected = blockmoe.fused_moe_prerouted(
        **prerouted_arguments(framework, layer, kept_ids(ids, weights, most, share), weights), experts=16
    )
    given = prerouted_arguments(framework, layer, ids, weights)
    output = blockmoe.fused_moe_prerouted(**given, experts=16, max_local_picks=most, min_weight_share=share)
    exact = blockmoe.fused_moe_prerouted(**given, experts=16)
    np.testing.assert_array_equal(framework.bits(output), framework.bits(expected))
    assert (framework.bits(output) != framework.bits(exact)).any()


def test_an_intermediate_of_two_terms_gives_the_layer_that_does_not_requantise(framework):
    layer = random_layer(40)
    given = prerouted_arguments(framework, layer, *picks_of(layer))
    output = blockmoe.fused_moe_prerouted(**given, experts=16, intermediate_type="e4m3x2")
    expected = mixture(layer, *picks_of(layer), requantises=False)
    assert relative_error(values(framework, output), expected) < GATE_TWO_TERMS


def test_picks_that_are_not_here_are_skipped(framework):
    layer = random_layer(6, offset=4, local=8)
    ids, weights = picks_of(layer)
    away = (ids < 4) | (ids >= 12)
    assert away.any()
    without = np.where(away, -1, ids).astype(np.int32)
    expected = blockmoe.fused_moe_prerouted(**prerouted_arguments(framework, layer, without, weights), experts=16)
    output = blockmoe.fused_moe_prerouted(**prerouted_arguments(framework, layer, ids, weights), experts=16)
    np.testing.assert_array_equal(framework.bits(output), framework.bits(expected))


def test_thirty_two_picks_are_taken(framework):
    layer = random_layer(3)
    ids = np.full((3, 32), -1, np.int32)
    ids[:, 5::2] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]
    weights = np.linspace(-1, 1, 96, dtype=np.float32).reshape(3, 32)
    output = blockmoe.fused_moe_prerouted(**prerouted_arguments(framework, layer, ids, weights), experts=32)
    assert relative_error(values(framework, output), mixture(layer, ids, weights)) < gate(framework)


REFUSED = {
    "ids_of_64_bits": ("topk_ids", lambda x: x.astype(np.int64), "topk_ids: type int64, expected"),
    "ids_of_floats": ("topk_ids", lambda x: x.astype(np.float32), "topk_ids: type float32, expected int32"),
    "ids_rank": ("topk_ids", lambda x: x[0], r"topk_ids: shape \[4\], expected \[T, K\]"),
    "ids_tokens": ("topk_ids", lambda x: x[:-1], r"topk_ids: shape \[4, 4\], expected \[5, 4\]"),
    "weights_shape": ("topk_weights", lambda x: x[:, 1:], r"topk_weights: shape \[5, 3\], expected \[5, 4\]"),
    "weights_columns_apart": ("topk_weights", lambda x: x.repeat(2, 1)[:, ::2], "topk_weights: strides"),
    "too_many_picks": ("topk_ids", lambda x: np.zeros((5, 33), np.int32), "geometry.top_k: 33, expected 1 to 32"),
}


@pytest.mark.parametrize("name, change, message", REFUSED.values(), ids=REFUSED.keys())
def test_a_refusal_names_the_argument_and_writes_nothing(name, change, message):
    layer = random_layer(5)
    given = prerouted_arguments(NumPy(), layer, *picks_of(layer))
    given[name] = change(given[name])
    output = NumPy().output(5, 256)
    with pytest.raises(ValueError, match=message):
        blockmoe.fused_moe_prerouted(**given, output=output, experts=64)
    assert (output == 0x7FC0).all()


def test_a_plan_has_its_own_options():
    layer = random_layer(2)
    plan = blockmoe.Plan(4, "cpu", experts=16, local_experts=16, hidden=256, intermediate=128, top_k=4)
    given = prerouted_arguments(NumPy(), layer, *picks_of(layer))
    with pytest.raises(ValueError, match="plan: given beside experts"):
        blockmoe.fused_moe_prerouted(**given, plan=plan, experts=16)
