"""Plans: what they say, what they refuse, and who may share them."""

import gc
import multiprocessing
import os
import threading

import numpy as np
import pytest

import blockmoe
from frameworks import NumPy, arguments
from reference import random_layer

SMALL = {"experts": 16, "local_experts": 16, "hidden": 256, "intermediate": 128, "top_k": 4, "n_group": 4, "topk_group": 2}


def bound_plan(layer, max_tokens):
    given = arguments(NumPy(), layer)
    step = [given.pop(name) for name in ("routing_logits", "hidden_states", "hidden_states_scale")]
    return blockmoe.Plan(max_tokens, "cpu", **SMALL).bind(blockmoe.Weights(**given)), step


def test_a_plan_says_what_runs_and_why():
    plan = blockmoe.Plan(64, "cpu", **SMALL)
    assert plan.path.startswith("cpu/")
    assert "threads: " in plan.explain
    assert plan.workspace_bytes > 0


def test_a_plan_that_prunes_says_so():
    plan = blockmoe.Plan(64, "cpu", **SMALL, max_local_picks=2)
    assert plan.path.endswith(" PRUNED")
    assert "PRUNED, not exact: of local picks stay the 2 of largest weight" in plan.explain


def test_a_batch_invariant_plan_gives_a_token_the_same_bits_in_any_batch():
    given = arguments(NumPy(), random_layer(9))
    step = {name: given.pop(name) for name in ("routing_logits", "hidden_states", "hidden_states_scale")}
    weights = blockmoe.Weights(**given)
    whole = blockmoe.Plan(9, "cpu", **SMALL, batch_invariant=True).bind(weights).run(**step)
    part = {name: np.ascontiguousarray(x[:, 3:5] if name == "hidden_states_scale" else x[3:5]) for name, x in step.items()}
    alone = blockmoe.Plan(70, "cpu", **SMALL, batch_invariant=True).bind(weights).run(**part)
    np.testing.assert_array_equal(alone, whole[3:5])


def test_a_plan_of_an_intermediate_of_two_terms_says_so_and_needs_more_room():
    plan = blockmoe.Plan(64, "cpu", **SMALL, intermediate_type="e4m3x2")
    assert "intermediate: e4m3x2" in plan.explain
    assert plan.workspace_bytes > blockmoe.Plan(64, "cpu", **SMALL).workspace_bytes


def test_a_plan_grows_with_its_tokens():
    assert blockmoe.Plan(4096, "cpu").workspace_bytes > blockmoe.Plan(1, "cpu").workspace_bytes


@pytest.mark.parametrize(
    "arguments_, options, message",
    [
        ((-1, "cpu"), {}, "max_tokens: -1, expected 0 to 1073741824"),
        ((1, "cpu"), {"hidden": 100}, "geometry.hidden: 100"),
        ((1, "cpu"), {"max_threads": -1}, "options.max_threads: -1"),
        ((1, "cpu"), {"max_local_picks": 9}, "options.pruning.max_local_picks: 9, expected 0 to 8"),
        ((1, "cpu"), {"min_weight_share": 1.0}, "options.pruning.min_weight_share: 1, expected at least 0 and below 1"),
        ((1, "cpu"), {"min_weight_share": float("nan")}, "options.pruning.min_weight_share: nan"),
        ((1, "cpu"), {"max_sms": 1 << 33}, "max_sms: 8589934592, expected a number of 32 bits"),
        ((1, "cpu"), {"backend": "portable"}, "options.backend: "),
        ((1, "cpu"), {"intermediate_type": "bf16"}, 'intermediate_type: "bf16", expected e4m3, e4m3x2'),
        ((1, "cpu"), {"policy": "best"}, 'policy: "best", expected auto, reference_b200, cutlass, trtllm'),
        ((1, "cpu"), {"mma_gemm2_m_threshold": -1}, "options.mma_gemm2_m_threshold: -1"),
        ((1, "cpu"), {"trtllm_gemm2_m_threshold": 0}, "trtllm_gemm2_m_threshold: 0, expected 1 or more"),
        ((1, "cuda:x"), {}, 'device: "cuda:x", expected cpu, cuda or cuda:<number>'),
        ((1, "cudax0"), {}, 'device: "cudax0", expected'),
        ((1, "tpu"), {}, 'name: "tpu", expected cpu, sm_80'),
    ],
)
def test_a_plan_that_cant_be_is_refused(arguments_, options, message):
    with pytest.raises(ValueError, match=message):
        blockmoe.Plan(*arguments_, **options)


def test_more_tokens_than_planned_are_refused():
    bound, step = bound_plan(random_layer(5), max_tokens=4)
    with pytest.raises(ValueError, match="hidden_states: T = 5, expected 0 to 4"):
        bound.run(*step)


def test_a_plan_has_its_own_options():
    layer = random_layer(2)
    plan = blockmoe.Plan(4, "cpu", **SMALL)
    with pytest.raises(ValueError, match="plan: given beside top_k"):
        blockmoe.fused_moe(**arguments(NumPy(), layer), plan=plan, top_k=4)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda room: np.zeros(room - 1, np.uint8), "workspace: [0-9]+ bytes, expected [0-9]+ or more"),
        (lambda room: np.zeros(room, np.float32), "workspace: type float32, expected uint8"),
        (lambda room: np.zeros(2 * room, np.uint8)[::2], "workspace: strided, expected bytes without gaps"),
    ],
)
def test_a_workspace_that_cant_be_used_is_refused(change, message):
    layer = random_layer(2)
    plan = blockmoe.Plan(4, "cpu", **SMALL)
    with pytest.raises(ValueError, match=message):
        blockmoe.fused_moe(**arguments(NumPy(), layer), plan=plan, workspace=change(plan.workspace_bytes))


def test_weights_that_cant_be_used_are_refused_when_they_are_bound():
    given = arguments(NumPy(), random_layer(1))
    weights = {name: given[name] for name in ("gemm1_weights", "gemm1_weights_scale", "gemm2_weights_scale")}
    with pytest.raises(ValueError, match=r"^gemm2_weights: shape \[8, 256, 128\], expected \[16, 256, 128\]"):
        blockmoe.Plan(1, "cpu", **SMALL).bind(blockmoe.Weights(**weights, gemm2_weights=given["gemm2_weights"][:8]))


def test_a_bound_plan_keeps_its_weights_alive():
    layer = random_layer(3)
    bound, step = bound_plan(layer, max_tokens=4)
    expected = bound.run(*step).copy()
    gc.collect()
    np.full(1 << 22, 0xFF, np.uint8)  # would land where freed weights were
    np.testing.assert_array_equal(bound.run(*step), expected)


@pytest.mark.parametrize("shared", [True, False], ids=["one_plan", "plans_of_their_own"])
def test_eight_threads_get_the_bits_of_one(shared):
    layers = [random_layer(1 + 3 * i, seed=i) for i in range(8)]
    bounds = [bound_plan(layer, max_tokens=32) for layer in layers]
    expected = [bound.run(*step).copy() for bound, step in bounds]
    wrong = []

    def work(i):
        bound, step = bounds[i]
        given = arguments(NumPy(), layers[i])
        for _ in range(25):
            output = blockmoe.fused_moe(**given, **layers[i].routing) if shared else bound.run(*step)
            if not np.array_equal(output, expected[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def call_in_child(layer, expected, answer):
    output = blockmoe.fused_moe(**arguments(NumPy(), layer), **layer.routing)
    answer.put(bool(np.array_equal(output, expected)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork() here")
def test_a_forked_child_can_call():
    layer = random_layer(3)
    expected = blockmoe.fused_moe(**arguments(NumPy(), layer), **layer.routing)
    context = multiprocessing.get_context("fork")
    answer = context.SimpleQueue()
    child = context.Process(target=call_in_child, args=(layer, expected, answer))
    child.start()
    child.join(60)
    alive = child.is_alive()
    child.kill()
    assert not alive
    assert answer.get() is True
