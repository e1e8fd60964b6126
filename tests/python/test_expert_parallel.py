"""The layer over several processes: equal to one that holds all experts, and ranks that fail are named."""

import dataclasses
import datetime
import math
import time

import ml_dtypes
import numpy as np
import pytest

from frameworks import TENSORS, NumPy, arguments
from processes import NoHosts, die, pull_cable, run_ranks, separate_hosts, stand_still
from reference import GATE_CPU, GATE_CUDA, random_layer, reference, relative_error

torch = pytest.importorskip("torch", reason="torch is not installed (make test-python-torch installs it)")

import blockmoe  # noqa: E402
from blockmoe import _core  # noqa: E402
from blockmoe._expert_map import ExpertMap  # noqa: E402
from blockmoe._expert_parallel_cpu import CpuLayer  # noqa: E402
from blockmoe.expert_parallel import EpGroup, RankError  # noqa: E402

EXPERTS, HIDDEN, INTERMEDIATE = 16, 256, 128  # as random_layer() makes them
GEOMETRY = {"experts": EXPERTS, "hidden": HIDDEN, "intermediate": INTERMEDIATE, "top_k": 4, "n_group": 4, "topk_group": 2}
WAYS = ("gather", "exchange")
TIMEOUT = datetime.timedelta(seconds=4)  # of the tests of faults: long enough for a machine that is busy

# ---- what a rank does


def made_group(rank, *, maps=None, **options):
    """An EpGroup of the layers that random_layer() makes."""
    expert_map = maps[rank] if maps else None
    return EpGroup(None, **({"max_tokens": 64, "max_threads": 1, "expert_map": expert_map} | GEOMETRY | options))


def bound_layer(rank, layer, group, *, maps=None, device="cpu"):
    count = EXPERTS // torch.distributed.get_world_size()
    held = list(maps[rank]) if maps else list(range(count * rank, count * rank + count))
    weights = {
        name: torch.from_numpy(getattr(layer, name)[held]).to(device)
        for name in ("gemm1_weights", "gemm1_weights_scale", "gemm2_weights", "gemm2_weights_scale")
    }
    return group.bind(
        blockmoe.Weights(
            **weights,
            routing_bias=torch.from_numpy(layer.routing_bias).to(device),
            local_expert_offset=group.local_expert_offset,
            routed_scaling_factor=layer.routed_scaling_factor,
        )
    )


def made_layer(rank, layer, *, maps=None, **options):
    return bound_layer(rank, layer, made_group(rank, maps=maps, **options), maps=maps)


def step_of(layer, begin, end):
    return (
        torch.from_numpy(layer.routing_logits[begin:end]),
        torch.from_numpy(layer.hidden_states[begin:end]).view(torch.float8_e4m3fn),
        torch.from_numpy(layer.hidden_states_scale[:, begin:end]),
    )


def own_step(rank, layer, tokens):
    begin = sum(tokens[:rank])
    return step_of(layer, begin, begin + tokens[rank])


def bits_of(output):
    return output.view(torch.uint16).numpy()


def run_both_ways(rank, layer, tokens, maps, options):
    """[way][repetition] -> bits of this rank's rows"""
    layers = [made_layer(rank, layer, maps=maps, way=way, **options) for way in WAYS]
    return [[bits_of(one.run(*own_step(rank, layer, tokens))) for _ in range(2)] for one in layers]


# ---- results


def results_of(ended):
    for one in ended:
        if one.error is not None:
            raise one.error
    return [one.result for one in ended]


def one_process(layer):
    return bits_as_values(blockmoe.fused_moe(**arguments(NumPy(), layer), **layer.routing))


def bits_as_values(bits):
    return bits.view(ml_dtypes.bfloat16).astype(np.float64)


THIRDS = [range(6), range(6, 11), range(11, 16)]
CASES = {
    "one_rank": ([9], None),
    "two_ranks": ([5, 9], None),
    "two_ranks_of_one_token": ([1, 1], None),
    "two_ranks_one_without_tokens": ([0, 7], None),
    "four_ranks": ([33, 1, 8, 64], None),
    "four_ranks_half_without_tokens": ([0, 40, 0, 2], None),
    "four_ranks_without_tokens": ([0, 0, 0, 0], None),
    "two_ranks_in_the_other_order": ([4, 3], [range(8, 16), range(8)]),
    "moved_experts": ([5, 9], [range(1, 16, 2), range(14, -1, -2)]),
    "three_ranks_of_6_5_and_5_experts": ([1, 0, 12], THIRDS),
    "replicas_on_two_ranks": ([20, 9], [range(11), range(15, 4, -1)]),
    "all_experts_on_three_ranks": ([7, 0, 5], [range(EXPERTS)] * 3),
    "replicas_on_four_ranks": ([30, 0, 9, 2], [range(6), range(4, 10), [9, 10, 11, 12, 0, 4], [13, 14, 15, 0, 4, 9]]),
}


@pytest.mark.parametrize("tokens, maps", CASES.values(), ids=CASES.keys())
def test_the_ranks_rows_are_those_of_one_process(tokens, maps):
    check_rows(tokens, maps)


def test_the_ranks_rows_are_those_of_one_process_with_gate_rows_first():
    check_rows([6, 3], None, gate_first=True)


def test_each_rank_keeps_as_many_picks_as_it_is_told():
    layer, tokens, most = random_layer(9), [5, 4], {"max_local_picks": 1}
    ways = results_of(run_ranks(2, run_both_ways, layer, tokens, None, most))
    halves = [
        dataclasses.replace(layer, local_expert_offset=first, **{name: getattr(layer, name)[first : first + 8] for name in TENSORS[4:]})
        for first in (0, 8)
    ]
    expected = sum(bits_as_values(blockmoe.fused_moe(**arguments(NumPy(), half), **layer.routing, **most)) for half in halves)
    for way in range(2):
        rows = np.concatenate([rank[way][0] for rank in ways])
        assert relative_error(bits_as_values(rows), expected) < GATE_CPU
    assert relative_error(expected, one_process(layer)) > 10 * GATE_CPU


def check_rows(tokens, maps, hosts=None, **options):
    layer = random_layer(sum(tokens), seed=len(tokens))
    up_first = dataclasses.replace(layer)
    if options.get("gate_first"):
        up_first.gemm1_weights = np.roll(layer.gemm1_weights, INTERMEDIATE, 1)
        up_first.gemm1_weights_scale = np.roll(layer.gemm1_weights_scale, INTERMEDIATE // 128, 1)
    results = results_of(run_ranks(len(tokens), run_both_ways, layer, tokens, maps, options, hosts=hosts))
    (first, again), others = [[np.concatenate([rank[way][i] for rank in results]) for i in range(2)] for way in range(2)]
    np.testing.assert_array_equal(again, first, err_msg="from run to run")
    for output in others:
        np.testing.assert_array_equal(output, first, err_msg="exchange beside gather")
    assert first.shape == (sum(tokens), HIDDEN)
    if sum(tokens) > 0:
        assert relative_error(bits_as_values(first), reference(up_first)) < GATE_CPU
        assert relative_error(bits_as_values(first), one_process(up_first)) < GATE_CPU
    if len(tokens) == 1:
        np.testing.assert_array_equal(bits_as_values(first), one_process(up_first))


def run_steps(rank, layer, steps):
    """[way][step] -> bits of this rank's rows, two layers of a group in turn"""
    groups = [made_group(rank, way=way) for way in WAYS]
    layers = [[bound_layer(rank, layer, group) for _ in range(2)] for group in groups]
    return [[bits_of(two[i % 2].run(*own_step(rank, layer, step))) for i, step in enumerate(steps)] for two in layers]


def test_a_rows_bits_do_not_depend_on_the_other_tokens_of_a_step():
    results = results_of(run_ranks(2, run_steps, random_layer(40), [[8, 8], [8, 0], [8, 32], [8, 1]]))
    for steps in results[0]:
        for output in steps[1:]:
            np.testing.assert_array_equal(output, steps[0])


def run_two_groups(rank, layer):
    """Bits of this rank's rows, ranks 0 and 2 being one layer and 1 and 3 another."""
    pairs = [torch.distributed.new_group(pair) for pair in ([0, 2], [1, 3])]
    group = EpGroup(pairs[rank % 2], 64, max_threads=1, **GEOMETRY)
    held = slice(8 * (rank // 2), 8 * (rank // 2) + 8)
    weights = [torch.from_numpy(getattr(layer, name)[held]) for name in TENSORS[4:]]
    bias = torch.from_numpy(layer.routing_bias)
    bound = group.bind(blockmoe.Weights(*weights, bias, group.local_expert_offset, layer.routed_scaling_factor))
    return bits_of(bound.run(*step_of(layer, 3 * rank, 3 * rank + 3)))


def test_a_group_may_be_some_of_all_ranks():
    layer = random_layer(12)
    rows = np.concatenate(results_of(run_ranks(4, run_two_groups, layer)))
    assert relative_error(bits_as_values(rows), one_process(layer)) < GATE_CPU


def run_in_other_types(rank, layer):
    """Whether a step gives the bits of the first one: into a given output, of logits in bf16, of uint8, of strided tensors."""
    one = made_layer(rank, layer)
    logits, hidden, scale = step_of(layer, 5 * rank, 5 * rank + 5)
    expected = one.run(logits, hidden, scale)
    output = torch.zeros(5, HIDDEN, dtype=torch.bfloat16)
    return {
        "output": one.run(logits, hidden, scale, output) is output and torch.equal(output, expected),
        "bf16": torch.equal(one.run(logits.bfloat16(), hidden, scale), expected),
        "uint8": torch.equal(one.run(logits, hidden.view(torch.uint8), scale), expected),
        "pitch": torch.equal(one.run(logits.repeat(1, 2)[:, :EXPERTS], hidden, scale.T.contiguous().T), expected),
    }


def test_what_a_step_takes():
    layer = random_layer(10)
    layer.routing_logits = layer.routing_logits.astype(ml_dtypes.bfloat16).astype(np.float32)
    for found in results_of(run_ranks(2, run_in_other_types, layer)):
        assert found == dict.fromkeys(found, True)


def chosen_way(rank):
    return made_group(rank).way()


def test_auto_is_exchange_on_the_cpu():
    assert results_of(run_ranks(2, chosen_way)) == ["exchange"] * 2


def test_holders_of_an_expert_take_turns_from_the_tokens_rank_on():
    experts = ExpertMap([[1, 0], [0], [0, 2]], 3)
    ids = torch.tensor([[0, 1, 2]] * 4)
    for home in range(3):
        computing, numbers = experts.holders_of(ids, home)
        turns = [(home + token) % 3 for token in range(4)]
        assert computing.tolist() == [[turn, 0, 2] for turn in turns]
        assert numbers.tolist() == [[(1, 0, 0)[turn], 0, 1] for turn in turns]


# ---- on GPUs


def run_on_gpus(rank, layer, tokens, maps):
    """[way][repetition] -> bits of this rank's rows"""
    device = f"cuda:{rank}"
    torch.cuda.set_device(rank)
    step = [tensor.to(device) for tensor in own_step(rank, layer, tokens)]
    outputs = []
    for way in WAYS:
        group = made_group(rank, maps=maps, way=way, device=device)
        one = bound_layer(rank, layer, group, maps=maps, device=device)
        both = [one.run(*step) for _ in range(2)]
        group.check()
        outputs.append([bits_of(output.cpu()) for output in both])
    return outputs


@pytest.mark.parametrize("maps", [None, [range(11), range(15, 4, -1)]], ids=["without_a_map", "replicas"])
@pytest.mark.parametrize("tokens", [[9], [5, 9], [0, 7]], ids=str)
def test_the_rows_of_ranks_on_gpus_are_the_references(tokens, maps):
    if torch.cuda.device_count() < len(tokens):
        pytest.skip(f"{len(tokens)} CUDA devices are needed, {torch.cuda.device_count()} here")
    if maps and len(tokens) == 1:
        pytest.skip("a map of two ranks")
    layer = random_layer(sum(tokens))
    results = results_of(run_ranks(len(tokens), run_on_gpus, layer, tokens, maps, with_cuda=True))
    for way in range(2):
        first, again = (np.concatenate([rank[way][i] for rank in results]) for i in range(2))
        np.testing.assert_array_equal(again, first)
        assert relative_error(bits_as_values(first), reference(layer)) < GATE_CUDA


def lose_rank_1(rank, layer, when):
    """A step of both ranks, then one that rank 0 waits for alone."""
    device = f"cuda:{rank}"
    torch.cuda.set_device(rank)
    group = made_group(rank, device=device, timeout=TIMEOUT)
    one = bound_layer(rank, layer, group, device=device)
    step = [tensor.to(device) for tensor in step_of(layer, 4 * rank, 4 * rank + 4)]
    one.run(*step)
    group.check()
    if rank == 1:
        if when == "while_the_other_waits_on_the_gpu":
            time.sleep(1)
        die()
    if when == "before_the_other_calls":
        time.sleep(1)
    one.run(*step)
    try:
        group.check()
    except RankError:
        torch.cuda.synchronize()  # the device goes on
        with pytest.raises(RuntimeError, match="its communicator was aborted"):
            one.run(*step)
        raise


@pytest.mark.parametrize("when", ["before_the_other_calls", "while_the_other_waits_on_the_gpu"])
def test_a_rank_on_a_gpu_whose_process_is_killed_is_named_and_nothing_hangs(when):
    if torch.cuda.device_count() < 2:
        pytest.skip(f"2 CUDA devices are needed, {torch.cuda.device_count()} here")
    survivor = run_ranks(2, lose_rank_1, random_layer(8), when, lost=1, with_cuda=True)[0]
    print(f"{survivor.error!r} after {survivor.seconds:.1f} s of the body, set-up included")
    assert isinstance(survivor.error, RankError), survivor
    assert "rank 1 has begun 2 calls, expected 3" in str(survivor.error)
    assert survivor.left


def test_the_librarys_group_says_what_it_can_not_connect():
    sizes = (4, 16, 256, 128, 8, 4, 4, 2)
    with pytest.raises(ValueError, match="^device: (cpu|this build)"):
        _core.make_ep_group(1, *sizes, "cpu", 0, False, 0, 0, False, 0, 1000, [0, 1], lambda calls: None, lambda rank: 0)
    with pytest.raises(ValueError, match="^expert_map: 4294967296, expected a number of 32 bits"):
        _core.make_ep_group(1, *sizes, "cpu", 0, False, 0, 0, False, 0, 1000, [2**32], lambda calls: None, lambda rank: 0)


# ---- a NaN stays where it is


def with_nan(layer, where):
    """A copy in which token 7, of rank 1, has a NaN."""
    changed = dataclasses.replace(layer, **{where: getattr(layer, where).copy()})
    match where:
        case "hidden_states":
            changed.hidden_states[7, 100] = 0x7F
        case "hidden_states_scale":
            changed.hidden_states_scale[1, 7] = math.nan
        case "routing_logits":
            changed.routing_logits[7] = math.nan
    return changed


@pytest.mark.parametrize("where", ["hidden_states", "hidden_states_scale", "routing_logits"])
def test_a_nan_of_one_rank_reaches_only_its_own_token(where):
    layer, tokens = random_layer(12), [5, 4, 3]
    clean, spoilt = (
        [
            np.concatenate([rank[way][0] for rank in results_of(run_ranks(3, run_both_ways, one, tokens, THIRDS, {}))])
            for way in range(2)
        ]
        for one in (layer, with_nan(layer, where))
    )
    others = np.arange(12) != 7
    for before, after in zip(clean, spoilt, strict=True):
        np.testing.assert_array_equal(after[others], before[others])
        # All of a row whose token has a NaN; NaN logits weigh 0.
        assert np.isnan(bits_as_values(after[7])).all() == (where != "routing_logits")
        assert not np.array_equal(after[7], before[7])


# ---- set-up

MISMATCHES = {
    "hidden": ([{}, {"hidden": 512}], "hidden: 512 on rank 1, expected 256 as on rank 0"),
    "intermediate": ([{}, {}, {}, {"intermediate": 256}], "intermediate: 256 on rank 3, expected 128 as on rank 0"),
    "experts": ([{}, {"experts": 24}], "experts: 24 on rank 1, expected 16 as on rank 0"),
    "top_k": ([{}, {"top_k": 2}], "top_k: 2 on rank 1, expected 4 as on rank 0"),
    "n_group": ([{}, {"n_group": 2}], "n_group: 2 on rank 1, expected 4 as on rank 0"),
    "topk_group": ([{}, {"topk_group": 1}], "topk_group: 1 on rank 1, expected 2 as on rank 0"),
    "gate_first": ([{}, {"gate_first": True}], "gate_first: True on rank 1, expected False as on rank 0"),
    "max_local_picks": ([{}, {"max_local_picks": 2}], "max_local_picks: 2 on rank 1, expected 0 as on rank 0"),
    "batch_invariant": ([{"batch_invariant": True}, {}], "batch_invariant: False on rank 1, expected True as on rank 0"),
    "max_tokens": ([{}, {"max_tokens": 9}], "max_tokens: 9 on rank 1, expected 64 as on rank 0"),
    "way": ([{}, {"way": "gather"}], "way: gather on rank 1, expected auto as on rank 0"),
    "map_of_one_rank": ([{}, {"expert_map": range(8)}], "expert_map: given on rank 1, expected none as on rank 0"),
    "map_twice": ([{"expert_map": range(8)}, {"expert_map": [8, 9, 8]}], "expert 8 twice on rank 1, expected once"),
    "map_outside": ([{"expert_map": [-1]}, {"expert_map": [3]}], "expert_map: expert -1 on rank 0, expected 0 to 15"),
    "map_incomplete": ([{"expert_map": range(15)}, {"expert_map": [3]}], "expert_map: expert 15 on no rank, expected each"),
}


def make_group_of(rank, options):
    made_group(rank, timeout=TIMEOUT, **options[rank])


@pytest.mark.parametrize("options, message", MISMATCHES.values(), ids=MISMATCHES.keys())
def test_a_mismatch_is_found_at_setup_on_every_rank(options, message):
    for one in run_ranks(len(options), make_group_of, options):
        assert isinstance(one.error, ValueError), one.error
        assert message in str(one.error)


REFUSED = {
    "device": ({"device": "meta"}, "device: meta, expected cpu or a CUDA device"),
    "way": ({"way": "scatter"}, 'way: "scatter", expected auto, gather, exchange'),
    "experts": ({"experts": 17, "n_group": 1, "topk_group": 1}, "experts: 17 on 2 ranks without a map, expected a multiple"),
    "geometry": ({"hidden": 200}, "hidden: 200, expected"),
}


@pytest.mark.parametrize("options, message", REFUSED.values(), ids=REFUSED.keys())
def test_a_refused_option_is_named(options, message):
    for one in run_ranks(2, make_group_of, [options] * 2):
        assert isinstance(one.error, ValueError), one.error
        assert message in str(one.error)


def bind_elsewhere(rank):
    layer = random_layer(0)
    weights = [torch.from_numpy(getattr(layer, name)[:8]) for name in TENSORS[4:]]
    group = made_group(rank)
    torch.distributed.barrier()  # neither leaves while the other still connects
    group.bind(blockmoe.Weights(*weights, local_expert_offset=3))


def test_weights_of_another_offset_are_refused():
    messages = [str(one.error) for one in run_ranks(2, bind_elsewhere)]
    assert messages == [f"local_expert_offset: 3, expected {first} (the group's)" for first in (0, 8)]


# ---- a call that is refused

CALLS = {
    "too_many_tokens": (
        lambda a, b, c: (a.repeat(13, 1), b.repeat(13, 1), c.repeat(1, 13)),
        "hidden_states: 65 tokens, expected 0 to 64",
    ),
    "logits_shape": (lambda a, b, c: (a[:, 1:], b, c), "routing_logits: shape [5, 15], expected [5, 16]"),
    "logits_type": (lambda a, b, c: (a.double(), b, c), "routing_logits: type torch.float64, expected torch.float32"),
    "hidden_type": (lambda a, b, c: (a, b.float(), c), "hidden_states: type torch.float32, expected torch.float8_e4m3fn or"),
    "hidden_rank": (lambda a, b, c: (a, b[0], c), "hidden_states: shape [256], expected [T, 256]"),
    "logits_strides": (lambda a, b, c: (a.T.contiguous().T, b, c), "routing_logits: strides"),
    "scale_tokens": (lambda a, b, c: (a, b, c[:, 1:]), "hidden_states_scale: shape [2, 4], expected [2, 5]"),
    "no_tensor": (lambda a, b, c: (a.numpy(), b, c), "routing_logits: ndarray, expected a torch.Tensor"),
}


def refuse_twice(rank, layer):
    one = made_layer(rank, layer)
    step = step_of(layer, 0, 4)
    messages = []
    for columns in (1, 2):
        try:
            one.run(step[0][:, columns if rank == 0 else 0 :], *step[1:])
        except (ValueError, RankError) as error:
            messages.append(str(error))
    return messages


def test_each_refusal_is_told_in_its_own_words():
    own, told = results_of(run_ranks(2, refuse_twice, random_layer(4)))
    assert own == [f"routing_logits: shape [4, {columns}], expected [4, 16]" for columns in (15, 14)]
    assert told == [f"rank 0 refused its arguments: {message}" for message in own]


def refuse_once(rank, case):
    """The error of a step in which rank 1's arguments are wrong, and whether it came at once and the next step is as before."""
    layer = random_layer(15)
    one = made_layer(rank, layer, maps=THIRDS)
    step = step_of(layer, 5 * rank, 5 * rank + 5)
    before = one.run(*step)
    start = time.monotonic()
    try:
        one.run(*(CALLS[case][0](*step) if rank == 1 else step))
    except (ValueError, TypeError, RankError) as error:
        at_once = time.monotonic() - start < 10
        return f"{type(error).__name__}: {error}", at_once and torch.equal(one.run(*step), before)
    return "", False


@pytest.mark.parametrize("case", CALLS)
def test_refused_arguments_are_told_to_all_and_the_group_goes_on(case):
    (first, goes_on), (second, also), (third, too) = results_of(run_ranks(3, refuse_once, case))
    message = CALLS[case][1]
    assert second.startswith(("ValueError: ", "TypeError: ")) and message in second
    for other in (first, third):
        assert other.startswith("RankError: rank 1 refused its arguments: ") and message in other
    assert goes_on and also and too


def run_apart(rank, layer, apart):
    """What a step says in which the ranks differ, and whether the next one works."""
    group = made_group(rank)
    layers = [bound_layer(rank, layer, group) for _ in range(2)]
    step = step_of(layer, 0, 4)
    try:
        layers[rank if apart == "layer" else 0].run(*step, most_tokens=8 + rank if apart == "most_tokens" else 8)
    except RankError as error:
        return str(error), error.ranks, len(layers[0].run(*step))
    return None


@pytest.mark.parametrize(
    "apart, messages",
    {
        "layer": [
            "rank 1: runs layer 2 of the group, expected 1 as here",
            "rank 0: runs layer 1 of the group, expected 2 as here",
        ],
        "most_tokens": ["rank 1: most_tokens 9, expected 8 as here", "rank 0: most_tokens 8, expected 9 as here"],
    }.items(),
)
def test_ranks_at_different_steps_are_told_and_the_group_goes_on(apart, messages):
    found = results_of(run_ranks(2, run_apart, random_layer(4), apart))
    assert found == [(messages[0], (1,), 4), (messages[1], (0,), 4)]


# ---- ranks that fail


def fail_before_setup(rank, layer, who, how):
    if rank == who:
        how()
    made_group(rank, timeout=TIMEOUT)


def fail_before_a_step(rank, layer, who, how):
    one = made_layer(rank, layer, timeout=TIMEOUT)
    step = step_of(layer, rank, rank + 4)
    one.run(*step)
    if rank == who:
        how()
    one.run(*step)


def fail_in_a_step(rank, layer, who, how):
    one = made_layer(rank, layer, way="gather", timeout=TIMEOUT)
    if rank == who:
        CpuLayer._compute = lambda *_: how()
    one.run(*step_of(layer, rank, rank + 4))


def never_call():
    time.sleep(60)


WHERE = {"before_setup": fail_before_setup, "before_a_step": fail_before_a_step, "in_a_step": fail_in_a_step}
HOW = {"dies": die, "never_calls": never_call, "stands_still": stand_still}


# Rank 0 holds the store here, so its end is the store's end too.
@pytest.mark.parametrize("who", [0, 2])
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("where", WHERE)
def test_a_rank_that_fails_is_named_within_the_set_time(where, how, who):
    ended = run_ranks(4, WHERE[where], random_layer(8), who, HOW[how], lost=who)
    for rank, one in enumerate(ended):
        if rank != who:
            assert isinstance(one.error, RankError), one
            if where == "before_setup" and how != "never_calls" and who == 0:
                assert str(one.error) == "the group's store does not answer; the rank that holds it may be gone"
            else:
                assert one.error.ranks == (who,)
                assert f"rank {who}: " in str(one.error)
            assert one.seconds < 2 * TIMEOUT.total_seconds() + 3


def survive(rank, layer):
    """The second error of a group that failed, and whether the caller's own group and a new EpGroup still work."""
    bound = made_layer(rank, layer, timeout=TIMEOUT)
    if rank == 1:
        time.sleep(TIMEOUT.total_seconds() + 1)
    messages = []
    for _ in range(2):
        try:
            bound.run(*step_of(layer, 0, 4))
        except RankError as error:
            messages.append(str(error))
    total = torch.ones(1)
    torch.distributed.all_reduce(total)
    after = made_layer(rank, layer)
    return messages, total.item(), len(after.run(*step_of(layer, 0, 4)))


def test_a_fault_leaves_the_callers_group_as_it_is():
    (first, total, tokens), (late, _, _) = results_of(run_ranks(2, survive, random_layer(4)))
    assert first == ["rank 1: no answer within 4 s"] * 2
    assert late == ["rank 1: no answer within 4 s (seen by rank 0)"] * 2
    assert (total, tokens) == (2, 4)


def raise_in_a_step(rank, layer):
    bound = made_layer(rank, layer, way="gather")
    if rank == 1:

        def fail(*_):
            raise MemoryError("no more")

        CpuLayer._compute = fail
    bound.run(*step_of(layer, 0, 4))


def test_an_exception_in_the_middle_of_a_step_is_told_to_all_at_once():
    ended = run_ranks(2, raise_in_a_step, random_layer(4))
    assert isinstance(ended[1].error, MemoryError)
    assert str(ended[0].error) == "rank 1: MemoryError in the middle of a step (no more) (seen by rank 1)"
    assert ended[0].seconds < 10


# ---- several hosts


@pytest.fixture
def hosts():
    try:
        with separate_hosts(3) as made:
            yield made
    except NoHosts as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize("case", ["two_ranks", "three_ranks_of_6_5_and_5_experts", "replicas_on_four_ranks"])
def test_ranks_of_several_hosts_give_the_rows_of_one_process(hosts, case):
    check_rows(*CASES[case], hosts)


def lose_cable(rank, layer, hosts):
    bound = made_layer(rank, layer, maps=THIRDS, way="gather", timeout=TIMEOUT)
    bound.run(*step_of(layer, 0, 4))
    torch.distributed.barrier()
    if rank == 2:
        pull_cable(hosts[2])
    bound.run(*step_of(layer, 0, 4))


def test_a_host_that_is_no_longer_reached_is_named_within_the_set_time(hosts):
    ended = run_ranks(3, lose_cable, random_layer(4), hosts, hosts=hosts)
    assert [one.error.ranks for one in ended] == [(2,), (2,), (0, 1)]
    assert all(one.seconds < TIMEOUT.total_seconds() + 5 for one in ended)
