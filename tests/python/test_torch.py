"""The operator in PyTorch: registered, traced, exported, captured."""

import numpy as np
import pytest

from frameworks import Torch, arguments, needs_cuda
from reference import random_layer

torch = pytest.importorskip("torch", reason="torch is not installed (make test-python-torch installs it)")

import blockmoe  # noqa: E402
import blockmoe.torch  # noqa: E402

TOKENS = 6
DEVICES = ["cpu", pytest.param("cuda", marks=needs_cuda)]


@pytest.fixture(params=DEVICES)
def device(request):
    return request.param


def call_of(device, tokens=TOKENS, seed=0, codes_as_uint8=False):
    """Positional arguments, options, and the output that blockmoe.fused_moe gives for them."""
    layer = random_layer(tokens, seed=seed)
    given = arguments(Torch(device, codes_as_uint8=codes_as_uint8), layer)
    return tuple(given.values()), layer.routing, blockmoe.fused_moe(**given, **layer.routing)


def same_bits(a, b):
    return torch.equal(a.view(torch.int16), b.view(torch.int16))


def test_the_functional_form_gives_the_bits_of_the_call(device):
    inputs, options, expected = call_of(device)
    assert same_bits(torch.ops.blockmoe.fused_moe(*inputs, **options), expected)


def test_the_out_form_writes_its_output(device):
    inputs, options, expected = call_of(device)
    output = torch.full_like(expected, float("nan"))
    assert torch.ops.blockmoe.fused_moe_out(*inputs, output, **options) is None
    assert same_bits(output, expected)


def test_opcheck_finds_nothing(device):
    inputs, options, expected = call_of(device, codes_as_uint8=True)  # opcheck calculates with inputs; e4m3 has no sums
    torch.library.opcheck(torch.ops.blockmoe.fused_moe.default, inputs, options)
    output = torch.zeros_like(expected)
    torch.library.opcheck(torch.ops.blockmoe.fused_moe_out.default, (*inputs, output), options)


def test_a_refusal_reaches_the_caller_by_name(device):
    inputs, options, _ = call_of(device)
    inputs = (*inputs[:7], inputs[7][:, :1], *inputs[8:])
    with pytest.raises(ValueError, match=r"gemm2_weights_scale: shape \[16, 1, 1\]"):
        torch.ops.blockmoe.fused_moe(*inputs, **options)


def test_a_gradient_is_refused(device):
    inputs, options, _ = call_of(device)
    inputs[3].requires_grad_()
    output = torch.ops.blockmoe.fused_moe(*inputs, **options)
    with pytest.raises(NotImplementedError, match="no gradient flows"):
        output.float().sum().backward()


class Residual(torch.nn.Module):
    """The operator between other operations, in both forms."""

    def __init__(self, inputs, options):
        super().__init__()
        self.weights, self.options = inputs[4:], options
        self.bias = inputs[1]

    def forward(self, logits, hidden, scale):
        first = torch.ops.blockmoe.fused_moe(logits * 1.0, self.bias, hidden, scale * 2, *self.weights, **self.options)
        output = torch.empty_like(first)
        torch.ops.blockmoe.fused_moe_out(
            logits * 1.0, self.bias, hidden, scale * 2, *self.weights, output, **self.options
        )
        return first.float() + output.float()


def step_of(inputs):
    return inputs[0], inputs[2], inputs[3]


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_a_whole_graph_compiles(device, backend):
    inputs, options, _ = call_of(device)
    module = Residual(inputs, options)
    compiled = torch.compile(module, fullgraph=True, backend=backend)
    assert torch.equal(compiled(*step_of(inputs)), module(*step_of(inputs)))


def test_a_compiled_graph_serves_other_numbers_of_tokens(device):
    inputs, options, _ = call_of(device)
    module = Residual(inputs, options)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager", dynamic=True)
    for tokens in (6, 9, 3):
        step = step_of(call_of(device, tokens, seed=tokens)[0])
        assert torch.equal(compiled(*step), module(*step))


def test_an_exported_program_gives_the_same(device):
    inputs, options, _ = call_of(device)
    module = Residual(inputs, options)
    tokens = torch.export.Dim("tokens", min=2, max=64)
    program = torch.export.export(module, step_of(inputs), dynamic_shapes=({0: tokens}, {0: tokens}, {1: tokens}))
    step = step_of(call_of(device, 11, seed=1)[0])
    assert torch.equal(program.module()(*step), module(*step))


@needs_cuda
def test_a_captured_graph_replays_on_new_contents():
    inputs, options, _ = call_of("cuda")
    output = torch.empty(TOKENS, 256, dtype=torch.bfloat16, device="cuda")
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):  # once outside, as PyTorch asks: kernels are loaded here
        torch.ops.blockmoe.fused_moe_out(*inputs, output, **options)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        torch.ops.blockmoe.fused_moe_out(*inputs, output, **options)
    other, _, expected = call_of("cuda", seed=1)
    for place, contents in zip(inputs, other):
        if isinstance(place, torch.Tensor):
            place.view(torch.uint8).copy_(contents.view(torch.uint8))
    graph.replay()
    torch.cuda.synchronize()
    assert same_bits(output, expected)


@needs_cuda
def test_calls_run_on_the_callers_current_stream():
    inputs, options, expected = call_of("cuda")
    hidden = inputs[2].clone()
    stream = torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        inputs[2].view(torch.uint8).zero_()
        torch.cuda._sleep(10_000_000)  # a call on another stream would read the zeros
        inputs[2].view(torch.uint8).copy_(hidden.view(torch.uint8))
        output = torch.ops.blockmoe.fused_moe(*inputs, **options)
    stream.synchronize()
    assert same_bits(output, expected)


@needs_cuda
def test_eight_threads_on_their_own_streams_get_the_bits_of_one():
    import threading  # noqa: PLC0415: here alone

    calls = [call_of("cuda", tokens=1 + 5 * i, seed=i) for i in range(8)]
    torch.cuda.synchronize()
    wrong = []

    def work(i):
        inputs, options, expected = calls[i]
        with torch.cuda.stream(torch.cuda.Stream()):
            outputs = [torch.ops.blockmoe.fused_moe(*inputs, **options) for _ in range(200)]
            torch.cuda.current_stream().synchronize()
        wrong.extend(i for output in outputs if not same_bits(output, expected))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_non_contiguous_weight_is_refused_and_nothing_is_written(device):
    inputs, options, expected = call_of(device)
    strided = inputs[4].view(torch.uint8).transpose(1, 2).contiguous().transpose(1, 2)
    output = torch.full_like(expected, float("nan"))
    with pytest.raises(ValueError, match="^gemm1_weights: .*stride"):
        torch.ops.blockmoe.fused_moe_out(*inputs[:4], strided, *inputs[5:], output, **options)
    assert np.isnan(output.float().cpu().numpy()).all()


@pytest.mark.parametrize("change", [lambda x: x.to("meta"), lambda x: x.to_sparse()], ids=["meta", "sparse"])
@pytest.mark.parametrize("name", ["routing_bias", "hidden_states_scale", "gemm2_weights_scale"])
def test_a_tensor_without_memory_to_lend_is_refused_by_name(name, change):
    layer = random_layer(TOKENS)
    given = arguments(Torch("cpu"), layer)
    given[name] = change(given[name])
    with pytest.raises(ValueError, match=f"^{name}: not lent by its framework"):
        blockmoe.fused_moe(**given, **layer.routing)
